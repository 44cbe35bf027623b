// Hello is a function with the contract http: a web server on $PORT that
// stays hot between calls. It greets the name in the body, as in
// {"name":"world"}.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	http.HandleFunc("/", greet)
	log.Fatal(http.ListenAndServe(":"+port, nil))
}

func greet(w http.ResponseWriter, r *http.Request) {
	in := struct {
		Name string `json:"name"`
	}{Name: "world"}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil && !errors.Is(err, io.EOF) {
		http.Error(w, "the body is not JSON: "+err.Error(), http.StatusBadRequest)
		return
	}
	// Standard output and standard error are the log of the run.
	fmt.Println("greeting", in.Name)
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]string{"message": "Hello, " + in.Name + "!"}); err != nil {
		log.Print(err)
	}
}
