"""Asks the inventory, and knows nothing of tokens: its Envoy does."""

import os

import requests

answer = requests.get(os.environ["INVENTORY_URL"] + "/inventory/items", timeout=10)
print(answer.status_code, answer.text)
