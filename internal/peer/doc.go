// Package peer says who is at the other end of a unix socket.
package peer
