// Front is what customers of the shop see. GET /buy?item=tea asks the catalogue,
// the stock and the payment over HTTP, and has it written down over UDP.
package main

import (
	"cmp"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// client opens a connection a request, so that each one is balanced.
var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func main() {
	http.HandleFunc("GET /buy", func(w http.ResponseWriter, r *http.Request) {
		answer, err := buy(url.PathEscape(r.FormValue("item")))
		if err != nil {
			log.Print(err)
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintln(w, answer)
	})
	addr := net.JoinHostPort(cmp.Or(os.Getenv("HOST"), "0.0.0.0"), cmp.Or(os.Getenv("PORT"), "8080"))
	server := &http.Server{Addr: addr, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func buy(item string) (string, error) {
	price, err := get("catalogue", "/price/"+item)
	if err != nil {
		return "", err
	}
	left, err := get("stock", "/take/"+item)
	if err != nil {
		return "", err
	}
	paid, err := get("payment", "/pay/"+price)
	if err != nil {
		return "", err
	}
	receipt, err := write(item + " " + price)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s for %s, %s left, %s, %s", item, price, left, paid, receipt), nil
}

// service returns where a Service is: what Kubernetes puts into the environment,
// else its name and a port.
func service(name, port string) string {
	prefix := strings.ToUpper(name) + "_SERVICE_"
	return net.JoinHostPort(cmp.Or(os.Getenv(prefix+"HOST"), name), cmp.Or(os.Getenv(prefix+"PORT"), port))
}

func get(name, path string) (string, error) {
	resp, err := client.Get("http://" + service(name, "80") + path)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	if err != nil {
		return "", fmt.Errorf("ask %s: %w: %s", name, err, body)
	}
	return strings.TrimSpace(string(body)), nil
}

// write has a line written into the ledger, and returns its answer. A datagram
// may get lost.
func write(line string) (string, error) {
	conn, err := net.Dial("udp", service("ledger", "9000"))
	if err != nil {
		return "", fmt.Errorf("ask ledger: %w", err)
	}
	defer conn.Close()
	buf := make([]byte, 512)
	for range 3 {
		_, err = conn.Write([]byte(line))
		if err != nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		var n int
		if n, err = conn.Read(buf); err == nil {
			return string(buf[:n]), nil
		}
	}
	return "", fmt.Errorf("ask ledger: %w", err)
}
