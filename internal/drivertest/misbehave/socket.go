package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	socketDir  = "/tmp/iofs"
	socketName = socketDir + "/lsnr.sock"
	ownName    = "phonylsnr.sock"
)

// socket HOW makes, or does not make, a socket as the kits of the Fn Project
// do, and says "made". Then it serves as the mode serve does, or waits.
func socket(args []string) {
	how := map[string]func(args []string){
		"kit": func([]string) { // as fdk-go and fdk-python
			l := listenUnix(filepath.Join(socketDir, ownName))
			link(ownName)
			serveOn(l)
		},
		"plain":    func([]string) { serveOn(listenUnix(socketName)) },
		"link":     func(args []string) { link(args[0]) },
		"file":     func([]string) { check(os.WriteFile(socketName, []byte("x"), 0o666)) },
		"pipe":     func([]string) { check(unix.Mkfifo(socketName, 0o666)) },
		"dir":      func([]string) { check(os.Mkdir(socketName, 0o777)) },
		"bound":    func([]string) { bound() },
		"deaf":     func([]string) { check(unix.Listen(bound(), 0)) },
		"abstract": func([]string) { listenUnix("@lsnr.sock"); link("@lsnr.sock") },
		"deleted": func([]string) {
			listenUnix(socketName)
			check(os.Remove(socketName))
		},
		"replaced": func([]string) { // by what leads out, when it is told so
			l := listenUnix(filepath.Join(socketDir, ownName))
			link(ownName)
			go serveOn(l)
			_, _ = os.Stdin.Read(make([]byte, 1))
			check(os.Symlink("../../secret.sock", socketDir+"/next"))
			check(os.Rename(socketDir+"/next", socketName))
			fmt.Println("replaced")
			sleep(nil)
		},
		"full": func([]string) { fill() },
		"none": func([]string) {},
	}
	how[args[0]](args[1:])
	sleep([]string{"made"})
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func link(target string) {
	check(os.Symlink(target, socketName))
}

func listenUnix(path string) net.Listener {
	l := must(net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}))
	l.SetUnlinkOnClose(false)
	if path[0] != '@' {
		check(os.Chmod(path, 0o666))
	}
	return l
}

func bound() int {
	fd := must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	check(unix.Bind(fd, &unix.SockaddrUnix{Name: socketName}))
	check(os.Chmod(socketName, 0o666))
	return fd
}

func serveOn(l net.Listener) {
	fmt.Println("made")
	for {
		go answer(must(l.Accept()))
	}
}

// fill makes as many files, and as much of one, as the directory takes.
func fill() {
	files, bytes := 0, 0
	for ; ; files++ {
		err := os.WriteFile(filepath.Join(socketDir, strconv.Itoa(files)), nil, 0o666)
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		check(err)
	}
	check(os.Remove(filepath.Join(socketDir, "0")))
	f := must(os.Create(filepath.Join(socketDir, "0")))
	for {
		n, err := f.Write(make([]byte, 4096))
		bytes += n
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		check(err)
	}
	_, err := os.Lstat(socketName)
	fmt.Println("files", files, "bytes", bytes, "socket", !errors.Is(err, fs.ErrNotExist))
}
