//go:build unix

package pgserver

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// parentVariable makes the test binary start a server in the directory that it
// names and wait for its own end, as a parent that gets killed.
const parentVariable = "PGSERVER_TEST_PARENT_OF"

// testTimeout bounds what a test waits for.
const testTimeout = time.Minute

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentVariable); dir != "" {
		s, err := Start(context.Background(), Config{Dir: dir, Settings: quick})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.URL("postgres"))
		fmt.Fprintln(os.Stderr, s.Wait(context.Background()))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}
