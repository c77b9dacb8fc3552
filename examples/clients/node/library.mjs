// Calls the inventory with a token that it fetches itself, with openid-client.
import * as client from 'openid-client'

const { ISSUER, TOKEN_URL, CLIENT_ID, CLIENT_SECRET, INVENTORY_URL } = process.env
const provider = { issuer: ISSUER, token_endpoint: TOKEN_URL }
const order = new client.Configuration(provider, CLIENT_ID, CLIENT_SECRET)
client.allowInsecureRequests(order) // plain HTTP, for the demo's Keycloak on loopback

const { access_token } = await client.clientCredentialsGrant(order, { scope: 'inventory-api' })
const headers = { authorization: `Bearer ${access_token}` }
const answer = await fetch(`${INVENTORY_URL}/inventory/items`, { headers })
console.log(answer.status, await answer.text())
