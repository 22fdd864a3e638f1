package registry

import (
	"net/netip"
	"reflect"
	"time"
	"unsafe"
)

// cost estimates the bytes of memory that c alone holds: what it replaced.
// What it put in place belongs to the Store, until a later Commit replaces it
// and is charged for it.
func (c *Commit) cost() int64 {
	n := int64(unsafe.Sizeof(*c)) + int64(cap(c.Objects))*int64(unsafe.Sizeof(Change{})) +
		int64(cap(c.Frontends))*int64(unsafe.Sizeof(FrontendChange{}))
	for _, change := range c.Objects {
		if change.Old != nil {
			n += behind(reflect.ValueOf(change.Old))
		}
	}
	for _, change := range c.Frontends {
		if f := change.Old; f != nil {
			// The names in it are those of its Pods.
			n += int64(unsafe.Sizeof(*f)) + int64(cap(f.Backends)+cap(f.Draining))*int64(unsafe.Sizeof(Backend{})) +
				int64(cap(f.Unused))*int64(unsafe.Sizeof(netip.AddrPort{}))
		}
	}
	return n
}

// smallest is what the least allocation takes.
const smallest = 16

var timeType = reflect.TypeFor[time.Time]()

// behind returns how much memory v refers to, without v itself. It counts what
// is there, not what is written of it: a Pod of a few bytes of JSON takes a
// thousand, and a list of nothing but empty elements takes as much for each.
// What two objects share counts for both.
func behind(v reflect.Value) int64 {
	switch v.Kind() {
	case reflect.String:
		return allocation(int64(v.Len()))
	case reflect.Pointer:
		if v.IsNil() {
			return 0
		}
		return allocation(int64(v.Type().Elem().Size())) + behind(v.Elem())
	case reflect.Slice:
		n := allocation(int64(v.Cap()) * int64(v.Type().Elem().Size()))
		if !refers(v.Type().Elem()) {
			return n
		}
		for i := range v.Len() {
			n += behind(v.Index(i))
		}
		return n
	case reflect.Map:
		// A table of them is between half full and full.
		n := 2 * int64(v.Len()) * int64(v.Type().Key().Size()+v.Type().Elem().Size())
		for it := v.MapRange(); it.Next(); {
			n += behind(it.Key()) + behind(it.Value())
		}
		return n
	case reflect.Struct:
		if v.Type() == timeType {
			return 0 // its time zone is everybody's
		}
		n := int64(0)
		for _, field := range v.Fields() {
			n += behind(field)
		}
		return n
	}
	return 0
}

func allocation(size int64) int64 {
	if size == 0 {
		return 0
	}
	return max(size, smallest)
}

// refers reports whether a value of type t may refer to memory.
func refers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.String, reflect.Pointer, reflect.Slice, reflect.Map, reflect.Struct, reflect.Interface:
		return true
	}
	return false
}
