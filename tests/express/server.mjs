// The inventory as in the walkthroughs, in Express: what a service has to hold where no proxy authenticates its callers.
//
// Three times the same service: behind the walkthroughs' middleware, line by line (jsonwebtoken, jwks-rsa); behind one that does
// the same with jose; and plain, for an Envoy to protect. ISSUER and JWKS_URI come from the environment; the ports that
// each listens on are printed as one line of JSON; it ends when its standard input does.
import express from 'express'
import { createRemoteJWKSet, jwtVerify } from 'jose'
import jwt from 'jsonwebtoken'
import jwksClient from 'jwks-rsa'

const { ISSUER: issuer, JWKS_URI: jwksUri } = process.env

const client = jwksClient({ jwksUri, cache: true, rateLimit: true })

function getKey(header, callback) {
  client.getSigningKey(header.kid, (err, key) => {
    if (err) return callback(err)
    callback(null, key.getPublicKey())
  })
}

function requireAuth(requiredRoles = []) {
  return (req, res, next) => {
    const authHeader = req.headers.authorization
    if (!authHeader?.startsWith('Bearer ')) {
      return res.status(401).json({ error: 'Missing token' })
    }

    const token = authHeader.split(' ')[1]

    jwt.verify(token, getKey, { algorithms: ['RS256'], issuer, audience: 'inventory-service' }, (err, decoded) => {
      if (err) {
        return res.status(401).json({ error: 'Invalid token' })
      }

      // Check roles
      const tokenRoles = decoded.resource_access?.['inventory-service']?.roles || []
      const hasAllRoles = requiredRoles.every((role) => tokenRoles.includes(role))

      if (!hasAllRoles) {
        return res.status(403).json({ error: 'Insufficient permissions' })
      }

      req.serviceAccount = decoded
      next()
    })
  }
}

const keys = createRemoteJWKSet(new URL(jwksUri))

function requireAuthByJose(requiredRoles = []) {
  return async (req, res, next) => {
    const authHeader = req.headers.authorization
    if (!authHeader?.startsWith('Bearer ')) {
      return res.status(401).json({ error: 'Missing token' })
    }
    let claims
    try {
      const options = { algorithms: ['RS256'], issuer, audience: 'inventory-service' }
      claims = (await jwtVerify(authHeader.split(' ')[1], keys, options)).payload
    } catch {
      return res.status(401).json({ error: 'Invalid token' })
    }
    const tokenRoles = claims.resource_access?.['inventory-service']?.roles || []
    if (!requiredRoles.every((role) => tokenRoles.includes(role))) {
      return res.status(403).json({ error: 'Insufficient permissions' })
    }
    req.serviceAccount = claims
    next()
  }
}

function inventory(...middleware) {
  const app = express()
  app.get('/inventory/items', ...middleware, (req, res) => res.json([{ sku: 'A-1', stock: 12 }]))
  return new Promise((resolve) => {
    const server = app.listen(0, '127.0.0.1', () => resolve(server.address().port))
  })
}

const ports = {
  walkthrough: await inventory(requireAuth(['inventory:read'])),
  jose: await inventory(requireAuthByJose(['inventory:read'])),
  plain: await inventory(),
}
console.log(JSON.stringify(ports))
process.stdin.on('end', () => process.exit(0)).resume()
