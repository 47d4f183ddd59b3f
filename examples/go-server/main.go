// An HTTP server on the listening socket that its pod gives it: annotation
// wasmpod.dev/listen.CONTAINER makes it descriptor 3.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	file := os.NewFile(3, "listener")
	listener, err := net.FileListener(file)
	if err != nil {
		log.Fatalf("descriptor 3 is no listening socket: %v", err)
	}
	file.Close()
	name, _ := os.ReadFile("/etc/hostname")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s from %s", r.Method, r.URL.Path, name)
	})
	fmt.Println("serving")
	log.Fatal(http.Serve(listener, nil))
}
