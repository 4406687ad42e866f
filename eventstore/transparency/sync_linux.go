package transparency

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncWhole makes everything durable that was written to the file system of a
// directory. Since Linux 5.8 (2020) it reports failed writes.
func syncWhole(dir string) (done bool, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return true, err
	}
	return true, errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
