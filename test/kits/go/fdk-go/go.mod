module github.com/fnproject/fdk-go

go 1.23
