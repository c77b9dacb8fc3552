"""Asks the inventory with a token that it fetches itself: requests-oauthlib."""

import os

from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session

order = OAuth2Session(client=BackendApplicationClient(client_id=os.environ["CLIENT_ID"], scope=["inventory-api"]))
order.fetch_token(os.environ["TOKEN_URL"], client_secret=os.environ["CLIENT_SECRET"], timeout=10)
answer = order.get(os.environ["INVENTORY_URL"] + "/inventory/items", timeout=10)
print(answer.status_code, answer.text)
