module example.com/kit

go 1.23

require github.com/fnproject/fdk-go v0.0.66

replace github.com/fnproject/fdk-go => ./fdk-go
