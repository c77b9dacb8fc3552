// Calls the inventory without a token: Envoy attaches it.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	answer, err := http.Get(os.Getenv("INVENTORY_URL") + "/inventory/items")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer answer.Body.Close()
	items, _ := io.ReadAll(answer.Body)
	fmt.Println(answer.StatusCode, string(items))
}
