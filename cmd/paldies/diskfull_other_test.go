//go:build !linux

package main

import (
	"fmt"
	"testing"
)

func TestPostgresDiskFull(t *testing.T) {
	fmt.Println("NOTE: no full disk was tested: small file systems are mounted on Linux only")
	t.Skip("small file systems are mounted on Linux only: run the tests there once")
}
