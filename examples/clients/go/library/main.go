// Calls the inventory with a token that it fetches itself, with golang.org/x/oauth2.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/oauth2/clientcredentials"
)

func main() {
	order := clientcredentials.Config{
		ClientID:     os.Getenv("CLIENT_ID"),
		ClientSecret: os.Getenv("CLIENT_SECRET"),
		TokenURL:     os.Getenv("TOKEN_URL"),
		Scopes:       []string{"inventory-api"},
	}
	answer, err := order.Client(context.Background()).Get(os.Getenv("INVENTORY_URL") + "/inventory/items")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer answer.Body.Close()
	items, _ := io.ReadAll(answer.Body)
	fmt.Println(answer.StatusCode, string(items))
}
