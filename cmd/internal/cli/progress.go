package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
)

const (
	barInterval  = 100 * time.Millisecond
	lineInterval = 10 * time.Second
)

// progress shows how far long work is on standard error: a bar with rate and
// time to go on a terminal, elsewhere a line every ten seconds. A total of 0 is
// not known. The returned function ends it.
func (a *app) progress(title string, total int64, done func() int64) (stop func()) {
	interval, show, finish := lineInterval, a.progressLine(title, total), func(int64) {}
	if isTerminal(a.err) {
		interval = barInterval
		show, finish = a.progressBar(title, total)
	}
	ended := make(chan struct{})
	var reporter sync.WaitGroup
	reporter.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show(done())
			case <-ended:
				finish(done())
				return
			}
		}
	})
	return func() {
		close(ended)
		reporter.Wait()
	}
}

func (a *app) progressLine(title string, total int64) func(int64) {
	start := time.Now()
	return func(n int64) {
		rate := float64(n) / time.Since(start).Seconds()
		line := fmt.Sprintf("%s: %d, %.0f/s", title, n, rate)
		if total > 0 && rate > 0 {
			togo := time.Duration(float64(total-n) / rate * float64(time.Second))
			line = fmt.Sprintf("%s: %d of %d, %.0f/s, %s to go", title, n, total, rate, togo.Round(time.Second))
		}
		fmt.Fprintln(a.err, line)
	}
}

func (a *app) progressBar(title string, total int64) (show, finish func(int64)) {
	w := progress.NewWriter()
	w.SetOutputWriter(a.err)
	w.SetAutoStop(false)
	w.SetUpdateFrequency(barInterval)
	w.SetStyle(progress.StyleBlocks)
	w.Style().Visibility.ETA = true
	w.Style().Visibility.Speed = true
	tracker := &progress.Tracker{Message: title, Total: total}
	w.AppendTracker(tracker)
	var rendering sync.WaitGroup
	rendering.Go(w.Render)
	return tracker.SetValue, func(n int64) {
		tracker.SetValue(n)
		tracker.MarkAsDone()
		w.Stop()
		rendering.Wait()
	}
}
