// The service of the suite in Express 4 and Express 5. README.md beside this folder says what every server does.
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const methodOverride = require('method-override')

const answer = (ran) => (req, res) => {
  const lines = [
    `ran: ${ran}`,
    `method: ${req.method}`,
    `host: ${req.hostname}`,
    `path: ${req.originalUrl}`,
    `caller: ${req.get('x-caller') ?? ''}`,
    `decision: ${req.get('m2m-auth-decision') ?? ''}`,
  ]
  for (let index = 0; index < req.rawHeaders.length; index += 2) {
    lines.push(`header: ${req.rawHeaders[index]}: ${req.rawHeaders[index + 1]}`)
  }
  res.type('text/plain').set('x-ran', ran).send(lines.join('\n'))
}

function service(express, rest) {
  const app = express()
  for (const name of ['X-HTTP-Method', 'X-HTTP-Method-Override', 'X-Method-Override']) app.use(methodOverride(name))
  // Handlers that read the URL by themselves, as many do.
  app.use((req, res, next) => {
    let path
    try {
      path = new URL(req.url, 'http://service').pathname
    } catch {
      return next()
    }
    if (path === '/admin' || path.startsWith('/admin/')) return answer('admin')(req, res)
    next()
  })
  app.use((req, res, next) => {
    if (req.hostname?.toLowerCase() === 'admin.example.com') return answer('admin-host')(req, res)
    next()
  })
  app.all(['/admin', `/admin/${rest}`], answer('admin'))
  app.delete(`/items/${rest}`, answer('delete'))
  app.all(`/items/${rest}`, answer('items'))
  app.all('/health', answer('health'))
  app.all(`/public/${rest}`, answer('public'))
  app.use((err, req, res, next) => res.status(err.status ?? 500).type('text/plain').send('error'))
  return new Promise((resolve) => {
    const server = app.listen(0, '127.0.0.1', () => resolve(server.address().port))
    server.keepAliveTimeout = 0
  })
}

const [name] = process.argv.slice(2)
const port = await (name === 'express4'
  ? service(require('express4'), '*')
  : service(require('express5'), '*rest'))
console.log(port)
process.stdin.on('end', () => process.exit(0)).resume()
