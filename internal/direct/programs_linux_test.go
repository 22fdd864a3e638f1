//go:build amd64 || arm64

package direct

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// clientsOfServices are programs that nobody wrote for usher. Each prints "a"
// once for every way in which it has reached a Service: by HTTP at web, and by
// UDP at echo.
var clientsOfServices = []struct {
	name, program string // that has to be there
	file, text    string // of a script
	compile       []string
	args          []string
	want          string
}{
	{
		name: "curl", program: "curl",
		args: []string{"curl", "-sS", "-m", "20", "--noproxy", "*", "http://web/", "http://web.default/", "http://web.default.svc.cluster.local/"},
		want: "a\na\na\n",
	},
	{
		name: "glibc", program: "getent",
		args: []string{"sh", "-c", "getent ahostsv4 web | grep -c STREAM; getent hosts web.default"},
		want: "1\n10.96.0.7       web.default.svc.cluster.local web.default\n",
	},
	{
		name: "glibc in C", program: "cc", file: "client.c", text: clientInC,
		compile: []string{"cc", "-o", "client", "client.c"}, args: []string{"./client"}, want: "a\na 1 1\n",
	},
	{
		name: "static glibc", program: "cc", file: "client.c", text: clientInC,
		compile: []string{"cc", "-static", "-o", "client", "client.c"}, args: []string{"./client"}, want: "a\na 1 1\n",
	},
	{
		name: "static musl", program: "musl-gcc", file: "client.c", text: clientInC,
		compile: []string{"musl-gcc", "-static", "-o", "client", "client.c"}, args: []string{"./client"}, want: "a\na 1 1\n",
	},
	{
		name: "python", program: "python3", file: "client.py", text: `
import socket, urllib.request
print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open("http://web/", timeout=20).read().decode().strip())
try:
    print(socket.getaddrinfo("web", 80, socket.AF_INET6))
except socket.gaierror:
    print("no IPv6")
to = socket.getaddrinfo("echo", 5000, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)
s.connect(to); s.send(b"1"); print(s.recv(99).decode())
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)
s.sendto(b"2", to); m, source = s.recvfrom(99); print(m.decode(), source == to)
s.sendmsg([b"3"], [], 0, to); m, _, _, source = s.recvmsg(99); print(m.decode(), source == to)
`,
		args: []string{"python3", "client.py"},
		want: "a\nno IPv6\na 1\na 2 True\na 3 True\n",
	},
	{
		name: "node", program: "node", file: "client.mjs", text: `
import dgram from "node:dgram"
import dns from "node:dns/promises"
console.log((await (await fetch("http://web/")).text()).trim())
console.log((await dns.resolve4("web"))[0], (await dns.lookup("web")).address)
const answer = (s) => new Promise((done) => s.once("message", (m, from) => done(m + " " + from.address + ":" + from.port)))
let s = dgram.createSocket("udp4")
s.send("1", 5000, "echo"); console.log(await answer(s)); s.close()
s = dgram.createSocket("udp4")
await new Promise((done) => s.connect(5000, "echo", done))
s.send("2"); console.log(await answer(s)); s.close()
`,
		args: []string{"node", "client.mjs"},
		want: "a\n10.96.0.7 10.96.0.7\na 1 10.96.0.9:5000\na 2 10.96.0.9:5000\n",
	},
	{
		name: "java", program: "java", file: "Client.java", text: `
import java.net.*;
import java.net.http.*;
class Client {
  public static void main(String[] args) throws Exception {
    var response = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create("http://web/")).build(), HttpResponse.BodyHandlers.ofString());
    System.out.println(response.body().trim());
    for (var connect : new boolean[] {false, true}) {
      var s = new DatagramSocket();
      s.setSoTimeout(20000);
      var to = new InetSocketAddress("echo", 5000);
      if (connect) s.connect(to);
      s.send(new DatagramPacket("1".getBytes(), 1, to));
      var p = new DatagramPacket(new byte[99], 99);
      s.receive(p);
      System.out.println(new String(p.getData(), 0, p.getLength()) + " " + p.getSocketAddress().equals(to));
    }
  }
}
`,
		args: []string{"java", "-XX:+UseSerialGC", "Client.java"},
		want: "a\na 1 true\na 1 true\n",
	},
}

// clientInC says whether the answer to a datagram came from where it was sent.
const clientInC = `
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct addrinfo *find(const char *name, const char *port, int type) {
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = type}, *found = NULL;
	int err = getaddrinfo(name, port, &hints, &found);
	if (err) printf("%s: %s\n", name, gai_strerror(err));
	return err ? NULL : found;
}

int main(void) {
	char b[4096] = "GET / HTTP/1.0\r\n\r\n";
	struct addrinfo *to = find("web", "80", SOCK_STREAM);
	if (!to) return 1;
	int s = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(s, to->ai_addr, to->ai_addrlen)) return perror("connect"), 1;
	write(s, b, strlen(b));
	size_t n = 0;
	for (ssize_t k; (k = read(s, b + n, sizeof b - 1 - n)) > 0; n += k);
	b[n] = 0;
	fputs(strstr(b, "\r\n\r\n") + 4, stdout);

	to = find("echo", "5000", SOCK_DGRAM);
	if (!to) return 1;
	s = socket(AF_INET, SOCK_DGRAM, 0);
	sendto(s, "1", 1, 0, to->ai_addr, to->ai_addrlen);
	struct sockaddr_storage from = {0};
	socklen_t length = sizeof from;
	n = recvfrom(s, b, sizeof b, 0, (struct sockaddr *)&from, &length);
	printf("%.*s %d\n", (int)n, b, length == to->ai_addrlen && !memcmp(&from, to->ai_addr, length));
	return 0;
}
`

// TestClients checks that programs reach Services by their names, over TCP and
// UDP, in the languages that are here.
func TestClients(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprintln(rw, "a") }))
	defer web.Close()
	w := newWorld(t, service("web", "10.96.0.7", 80, "TCP", web.Listener.Addr().String())+
		service("echo", "10.96.0.9", 5000, "UDP", udpBackend(t, "a", "127.0.0.1:0")))
	w.nameserver(t)
	before := sentOutside(t)
	for _, c := range clientsOfServices {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath(c.program); err != nil {
				t.Skipf("SKIP: %v", err)
			}
			cmd := w.usher(c.args...)
			cmd.Dir = t.TempDir()
			if c.file != "" {
				if err := os.WriteFile(filepath.Join(cmd.Dir, c.file), []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.compile != nil {
				build := exec.CommandContext(t.Context(), c.compile[0], c.compile[1:]...)
				build.Dir = cmd.Dir
				if out, err := build.CombinedOutput(); err != nil {
					t.Skipf("SKIP: %v: %s", err, out)
				}
				cmd.Dir = build.Dir
			}
			start := time.Now()
			stdout, stderr, code := run(t, cmd)
			if stdout != c.want || code != 0 {
				t.Errorf("code %d after %v, output\n%s\nerrors\n%s\nwant\n%s", code, time.Since(start), stdout, stderr, c.want)
			}
		})
	}
	if sent := sentOutside(t) - before; sent != 0 {
		t.Errorf("%d packets have left", sent)
	}
}
