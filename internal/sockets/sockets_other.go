//go:build !linux

package sockets

import (
	"errors"
	"net"
)

// A Borrower has the sockets of another network namespace, which there are on
// Linux alone.
type Borrower struct{ conn *net.UnixConn }

// NewBorrower returns a Borrower of nothing.
func NewBorrower(conn *net.UnixConn) *Borrower { return &Borrower{conn} }

// Done is closed when there is no lender any more: nil, since there is none.
func (b *Borrower) Done() <-chan struct{} { return nil }

// Close ends the loan.
func (b *Borrower) Close() error { return b.conn.Close() }

// Ready tells nobody.
func (b *Borrower) Ready() error { return errors.ErrUnsupported }

// Socket needs Linux.
func (b *Borrower) Socket(_, _ int) (fd int, err error) { return -1, errors.ErrUnsupported }
