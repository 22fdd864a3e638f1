//go:build !linux

package proxy

// chooseEngine returns what makes the engine of that name: there is one.
func chooseEngine(name string) func(engineOptions) engine {
	return func(o engineOptions) engine {
		if name == "loop" {
			o.log.Warn("event loops are there on Linux alone; the portable engine takes their place")
		}
		return newPortable(o)
	}
}
