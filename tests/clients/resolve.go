// Looks up each argument with Go's own resolver (GODEBUG=netdns=go) and prints its IPv4 addresses, sorted.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sort"
	"time"
)

func main() {
	context, done := context.WithTimeout(context.Background(), 20*time.Second)
	defer done()
	resolver := net.Resolver{PreferGo: true}
	for _, name := range os.Args[1:] {
		found, err := resolver.LookupIP(context, "ip4", name)
		if err != nil {
			fmt.Println(name, "error:", err)
			os.Exit(1)
		}
		var texts []string
		for _, ip := range found {
			texts = append(texts, ip.String())
		}
		sort.Strings(texts)
		fmt.Println(name, texts)
	}
}
