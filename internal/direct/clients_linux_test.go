//go:build amd64 || arm64

package direct

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// clients are programs of the tests, by the name of their role.
var clients = map[string]func(args []string){
	"ask":    askMain,
	"asks":   asksMain,
	"listen": listenMain, "itself": itselfMain,
	"probe": func([]string) { fmt.Println(Probe()) },
}

// askMain connects to each address N times, one after the other, and prints
// what the backends say they are: ask N ADDRESS...
func askMain(args []string) {
	n, _ := strconv.Atoi(args[0])
	for range n {
		for _, address := range args[1:] {
			fmt.Println(ask("tcp", address))
		}
	}
}

func ask(network, address string) string {
	c, err := net.Dial(network, address)
	if err != nil {
		return short(err)
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return short(err)
	}
	return strings.TrimSpace(line)
}

// short returns the last part of an error, which is that of the kernel.
func short(err error) string {
	if err == nil {
		return "ok"
	}
	text := err.Error()
	return text[strings.LastIndex(text, ": ")+1:][1:]
}

// asksMain does what the lines of its input say: it asks an address, or N
// times and says how often that went well, or counts its descriptors.
func asksMain([]string) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch {
		case words[0] == "descriptors":
			entries, _ := os.ReadDir("/proc/self/fd")
			fmt.Println(len(entries))
		case len(words) == 1:
			fmt.Println(ask("tcp", words[0]))
		default:
			n, _ := strconv.Atoi(words[0])
			var good atomic.Int64
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					for range n / 20 {
						if ask("tcp", words[1]) == "a" {
							good.Add(1)
						}
					}
				})
			}
			wg.Wait()
			fmt.Println(good.Load())
		}
	}
}
