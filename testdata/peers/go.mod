// What only the benchmarks need: the product's go.mod stays clean of it.
module macaroond/testdata/peers

go 1.26.0

require (
	github.com/golang-jwt/jwt/v5 v5.3.1
	gopkg.in/macaroon.v2 v2.1.0
	macaroond v0.0.0
)

require (
	github.com/go-json-experiment/json v0.0.0-20260820222146-c27c302e5fc3 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace macaroond => ../..
