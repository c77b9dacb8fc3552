// Calls the inventory without a token: Envoy attaches it.
const answer = await fetch(`${process.env.INVENTORY_URL}/inventory/items`)
console.log(answer.status, await answer.text())
