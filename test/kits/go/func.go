// Command kit is the tests' function, made with fdk-go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"time"

	fdk "github.com/fnproject/fdk-go"
)

func main() { fdk.Handle(fdk.HandlerFunc(handle)) }

type order struct {
	Status int    `json:"status"`
	Fail   bool   `json:"fail"`
	Sleep  int    `json:"sleep"` // ms
	Print  string `json:"print"`
	Text   string `json:"text"`
}

func handle(ctx context.Context, in io.Reader, out io.Writer) {
	var o order
	if err := json.NewDecoder(in).Decode(&o); err != nil && !errors.Is(err, io.EOF) {
		fdk.WriteStatus(out, 400)
		return
	}
	if o.Print != "" {
		log.Println(o.Print)
	}
	time.Sleep(time.Duration(o.Sleep) * time.Millisecond)
	if o.Fail {
		panic("it was told to fail")
	}
	fnctx := fdk.GetContext(ctx)
	answer := map[string]any{
		"text": o.Text, "call": fnctx.CallID(), "app": fnctx.AppName(), "function": fnctx.FnName(),
		"config": os.Getenv("OWN"), "field": fnctx.Header().Get("X-Own"), "type": fnctx.ContentType(),
	}
	if h, ok := fnctx.(fdk.HTTPContext); ok {
		answer["method"], answer["url"] = h.RequestMethod(), h.RequestURL()
	}
	fdk.SetHeader(out, "Content-Type", "application/json")
	fdk.SetHeader(out, "X-Answer", "yes")
	if o.Status != 0 {
		fdk.WriteStatus(out, o.Status)
	}
	if err := json.NewEncoder(out).Encode(answer); err != nil {
		log.Println(err)
	}
}
