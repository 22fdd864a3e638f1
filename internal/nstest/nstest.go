// Package nstest runs tests in namespaces of their own, where what they do to
// the network, and what they send, concerns nobody else. It is Linux alone.
package nstest
