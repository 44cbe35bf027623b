package core

// Principal is who asks. Every call of a port that changes or tells something
// carries one.
type Principal struct {
	// Name is what is written down, such as "local" or "token".
	Name string
	// Local is set for a caller that came in by the open loopback door.
	Local bool
}

// System is the principal of what the server does by itself.
var System = Principal{Name: "system"}

// Visit is what is known of a request before it is known who sends it: what
// the door decides by. Fields of headers are as they were sent, "" for none.
type Visit struct {
	Method string
	Host   string // Host header, with its port
	Remote string // the caller's address and port
	// Authorization, Origin and FetchSite (Sec-Fetch-Site) are headers.
	Authorization string
	Origin        string
	FetchSite     string
	// Function is set for a request to a function's URL, whose method says
	// nothing of whether it changes something.
	Function bool
}
