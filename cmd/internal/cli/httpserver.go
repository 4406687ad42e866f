package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// Limits of the HTTP server. What it serves is small, and quick but for a vote
// that waits for a new leader.
const (
	httpHeaderTimeout  = 5 * time.Second
	httpReadTimeout    = 10 * time.Second
	httpWriteTimeout   = 20 * time.Second // from the head of a request to the end of its answer, so more than reading and api.WorkTimeout together
	httpIdleTimeout    = time.Minute
	httpStopTimeout    = httpWriteTimeout // for requests under way when it is asked to stop: as long as one may last
	httpHeaderBytesMax = 16 << 10
	// maxConnections is how many are open at a time; who comes beyond that waits
	// until one is closed.
	maxConnections = 8192
)

// serveHTTP serves until the context ends, then lets requests under way end.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: httpHeaderTimeout,
		ReadTimeout:       httpReadTimeout,
		WriteTimeout:      httpWriteTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    httpHeaderBytesMax,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(netutil.LimitListener(listener, maxConnections)) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stopping, stop := context.WithTimeout(context.WithoutCancel(ctx), httpStopTimeout)
	defer stop()
	err := s.Shutdown(stopping)
	if err != nil {
		err = errors.Join(err, s.Close())
	}
	<-served // http.ErrServerClosed: it was we who closed it
	return err
}
