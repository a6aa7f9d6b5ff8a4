// Package ginguard is the guard as middleware for gin, apart from the guard so
// that others need not link gin.
package ginguard

import (
	"github.com/gin-gonic/gin"

	"macaroond/service/guard"
)

// Protect lets requests with a good token go on; their context tells whose they
// are (guard.From of c.Request.Context()). Others are answered and aborted.
//
// The route's parameters are there for guard.Options.Facts, which is given no
// gin.Context, as r.PathValue; that of a wildcard begins with its slash, as gin's.
func Protect(g *guard.Guard) gin.HandlerFunc {
	return func(c *gin.Context) {
		for _, p := range c.Params {
			c.Request.SetPathValue(p.Key, p.Value)
		}
		r, ok := g.Admit(c.Writer, c.Request)
		if !ok {
			c.Abort()
			return
		}
		c.Request = r
		c.Next()
	}
}
