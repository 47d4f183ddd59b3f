// A Go program in a pod: GOOS=wasip1 GOARCH=wasm go build.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

func main() {
	host, _ := os.ReadFile("/etc/hostname")
	fmt.Printf("hello from %s on %s/%s, host %s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, strings.TrimSpace(string(host)))
	for place, argument := range os.Args {
		fmt.Printf("argument %d: %s\n", place, argument)
	}
	entries, err := os.ReadDir("/etc")
	if err != nil {
		fmt.Fprintln(os.Stderr, "reading /etc:", err)
		os.Exit(1)
	}
	for _, entry := range entries {
		fmt.Println("/etc holds", entry.Name())
	}
}
