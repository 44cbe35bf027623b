// Package access decides who may come in.
//
// On a loopback address without a token the door is open to whoever is on the
// machine, but not to the web pages in their browser: the Host must be one by
// which this machine calls itself, so that no foreign name can be pointed at
// it (DNS rebinding), and a call that a page of another origin makes is
// refused where it could change something or reach a function (CSRF). On any
// other address, and wherever a token is set, the token is asked for.
//
// [Service.Enter] is on the path of every call: it takes no lock and makes no
// garbage.
package access
