// Package ginguard is the guard as middleware for gin, apart from the guard so
// that others need not link gin.
package ginguard

import (
	"github.com/gin-gonic/gin"

	"macaroond/service/guard"
)

// Protect lets requests with a good token go on; their context tells whose they
// are (guard.From of c.Request.Context()). Others are answered and aborted.
func Protect(g *guard.Guard) gin.HandlerFunc {
	return func(c *gin.Context) {
		r, ok := g.Admit(c.Writer, c.Request)
		if !ok {
			c.Abort()
			return
		}
		c.Request = r
		c.Next()
	}
}
