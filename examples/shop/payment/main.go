// Payment takes money: GET /pay/AMOUNT says who has taken it.
package main

import (
	"cmp"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	http.HandleFunc("GET /pay/{amount}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "paid at %s\n", cmp.Or(os.Getenv("POD_NAME"), "payment"))
	})
	addr := net.JoinHostPort(cmp.Or(os.Getenv("HOST"), "0.0.0.0"), cmp.Or(os.Getenv("PORT"), "8080"))
	server := &http.Server{Addr: addr, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}
