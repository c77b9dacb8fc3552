// The service of the suite on Go's net/http and its ServeMux. README.md beside this folder says what every server does.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sort"
)

func answer(ran string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("content-type", "text/plain")
		w.Header().Set("x-ran", ran)
		fmt.Fprintf(w, "ran: %s\nmethod: %s\nhost: %s\npath: %s\ncaller: %s\ndecision: %s\n",
			ran, r.Method, r.Host, r.RequestURI, r.Header.Get("X-Caller"), r.Header.Get("M2m-Auth-Decision"))
		names := make([]string, 0, len(r.Header))
		for name := range r.Header {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			for _, value := range r.Header[name] {
				fmt.Fprintf(w, "header: %s: %s\n", name, value)
			}
		}
	}
}

func main() {
	mux := http.NewServeMux()
	mux.Handle("admin.example.com/", answer("admin-host"))
	mux.Handle("/admin", answer("admin"))
	mux.Handle("/admin/", answer("admin"))
	mux.Handle("DELETE /items/", answer("delete"))
	mux.Handle("/items/", answer("items"))
	mux.Handle("/health", answer("health"))
	mux.Handle("/public/", answer("public"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := http.Server{Handler: mux, Protocols: &protocols}
	panic(server.Serve(listener))
}
