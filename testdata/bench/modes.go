//go:build linux

package main

import "time"

// A turn is one peer's in one round of a mode.
type turn struct {
	peer  *peer
	take  time.Duration
	sinks *sinks
}

// A mode is one kind of load.
type mode struct {
	name, what string
	unit       string
	port       string
	run        func(t turn, p port) (sample, error)
	columns    []figure
	ratios     []figure // of usher's figure to another peer's
}

// What is worth a look depends on what is given: with a rate it is how much
// CPU that took and how long one waited, without one the rate too.
var (
	moved    = []figure{rate, cpu, user}
	answered = []figure{rate, cpu, user, p50, p99}
	oneWay   = []figure{rate, cpu, user, lost}
)

var modes = []mode{
	{"bulk-up", "8 streams to the backends", "GB", "sink", bulk{8, true}.run, moved, []figure{rate, cpu}},
	{"bulk-down", "8 streams from the backends", "GB", "source", bulk{8, false}.run, moved, []figure{rate, cpu}},
	{
		"request-1", "1 B there and back, 64 connections", "request", "echo",
		request{64, 1, 0}.run, answered, []figure{rate, cpu, p99},
	},
	{
		"request-1k", "1 KB there and back, 64 connections", "request", "echo",
		request{64, 1024, 0}.run, answered, []figure{rate, cpu, p99},
	},
	{
		"request-rate", "256 B there and back, 15,000 a second over 256 connections", "request", "echo",
		request{256, 256, 15000}.run, answered, []figure{cpu, p99},
	},
	{
		"connection", "open, 64 B there and back, close; 64 at a time", "connection", "echo",
		connection{64, 0}.run, append(answered, lost), []figure{rate, cpu, p99},
	},
	{
		"connection-rate", "open, 64 B there and back, close; 4,000 a second", "connection", "echo",
		connection{1024, 4000}.run, append(answered, lost), []figure{cpu, p99},
	},
	{
		"udp", "64 B there and back, 64 sockets", "request", "udp",
		datagram{64, 0, false}.run, append(answered, lost), []figure{rate, cpu, p99},
	},
	{
		"udp-rate", "64 B there and back, 20,000 a second over 64 sockets", "request", "udp",
		datagram{64, 20000, false}.run, append(answered, lost), []figure{cpu, p99},
	},
	{
		"udp-fresh", "64 B there and back, each from a new port, 64 at a time", "request", "fresh",
		datagram{64, 0, true}.run, append(answered, lost), []figure{rate, cpu, p99},
	},
	{
		"udp-flood", "1,200 B one way, 100,000 a second from 8 sockets", "datagram", "flood",
		flood{8, 100000}.run, oneWay, []figure{cpu},
	},
	{
		"udp-flood-max", "1,200 B one way from 8 sockets, as fast as they are sent", "datagram", "flood",
		flood{8, 0}.run, oneWay, []figure{rate, cpu},
	},
	{
		"idle", "what is held for each of 3,000 connections", "connection", "echo",
		idle{3000}.run, []figure{resident, held}, []figure{resident, held},
	},
}

func modeNames() []string {
	var names []string
	for _, m := range modes {
		names = append(names, m.name)
	}
	return names
}
