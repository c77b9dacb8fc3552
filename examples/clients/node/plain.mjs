// Asks the inventory, and knows nothing of tokens: its Envoy does.
const answer = await fetch(`${process.env.INVENTORY_URL}/inventory/items`)
console.log(answer.status, await answer.text())
