// Command bare answers every request with nothing: what is left is gin, net/http
// and the kernel, which no handler on them can be faster than.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"runtime/debug"

	"github.com/gin-gonic/gin"
)

func main() {
	debug.SetGCPercent(400) // as macaroond serve does
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	g.GET("/authz/forwarded", func(c *gin.Context) { c.Status(http.StatusOK) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("bare listens on http://%s\n", l.Addr())
	log.Fatal(http.Serve(l, g))
}
