//go:build linux

package main

import (
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"none", nil, 0},
		{"one", []float64{7}, 7},
		{"odd", []float64{9, 1, 5}, 5},
		{"even", []float64{4, 1, 3, 2}, 2.5},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("%s: median is %v, want %v", tt.name, got, tt.want)
		}
	}
	values := []float64{3, 1, 2}
	if median(values); values[0] != 3 {
		t.Error("the values have been sorted")
	}
}

func TestQuantile(t *testing.T) {
	var sorted []time.Duration
	for i := range 100 {
		sorted = append(sorted, time.Duration(i+1))
	}
	for p, want := range map[float64]time.Duration{0: 1, 0.5: 51, 0.99: 100, 1: 100} {
		if got := quantile(sorted, p); got != want {
			t.Errorf("quantile %v is %v, want %v", p, got, want)
		}
	}
	if got := quantile(nil, 0.5); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}

func TestRatio(t *testing.T) {
	for _, tt := range []struct {
		name         string
		ours, theirs map[int]float64
		want         ratio
	}{
		{"a round each", map[int]float64{0: 1, 1: 3, 2: 8}, map[int]float64{0: 2, 1: 2, 2: 2}, ratio{1.5, 0.5, 4, 3}},
		{"rounds that failed", map[int]float64{0: 1, 2: 6}, map[int]float64{1: 5, 2: 2}, ratio{3, 3, 3, 1}},
		{"no CPU was seen", map[int]float64{0: 1}, map[int]float64{0: 0}, ratio{}},
		{"nobody to compare with", map[int]float64{0: 1}, nil, ratio{}},
	} {
		if got := ratioOf(tt.ours, tt.theirs); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestFormatFigure(t *testing.T) {
	for x, want := range map[float64]string{
		0: "-", 0.126: "0.13", 12.34: "12.3", 123.4: "123", 1234: "1,234", 1234567: "1,234,567",
	} {
		if got := formatFigure(x); got != want {
			t.Errorf("%v is written %q, want %q", x, got, want)
		}
	}
}

func TestPacer(t *testing.T) {
	p := newPacer(1000)
	p.next = time.Now().Add(-2500 * time.Microsecond)
	first := p.next
	for i := range 3 {
		at, due := p.due()
		if want := first.Add(time.Duration(i) * time.Millisecond); !due || !at.Equal(want) {
			t.Fatalf("unit %d is due %v at %v, want %v", i, due, at, want)
		}
	}
	p.next = time.Now().Add(time.Hour)
	if _, due := p.due(); due {
		t.Error("a unit is due an hour early")
	}
	if _, due := newPacer(0).due(); !due {
		t.Error("without a rate nothing is due")
	}
}
