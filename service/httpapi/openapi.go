package httpapi

import (
	_ "embed"
	"net/http"

	"github.com/gin-gonic/gin"
)

// OpenAPI is the description of the interface (OpenAPI 3.0.3). Tests check
// the running server against it.
//
//go:embed openapi.json
var OpenAPI []byte

func openAPI(c *gin.Context) { c.Data(http.StatusOK, "application/json", OpenAPI) }
