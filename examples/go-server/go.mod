module wasmpod.dev/examples/go-server

go 1.21
