// A second opinion on trees, notes and tiles: Go's own sumdb packages (Debian's golang-golang-x-mod-dev).
// Reads a JSON object from stdin, see the fields below; the tiles lie in the directory named first. Prints what it checked,
// and a note of its own over the same text.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index, Size int64
	Leaf        []byte
	Root        []byte
	Proof       [][]byte
}

type consistency struct {
	Old, New         int64
	OldRoot, NewRoot []byte
	Proof            [][]byte
}

type input struct {
	Keys        []string // verifier keys, all of which must have signed
	Note        string   // a checkpoint
	Leaves      [][]byte // the data of all leaves
	Inclusion   []inclusion
	Consistency []consistency
}

func hash(b []byte) (h tlog.Hash) {
	if len(b) != tlog.HashSize {
		log.Fatalf("a hash of %d bytes", len(b))
	}
	copy(h[:], b)
	return
}

func hashes(all [][]byte) (out []tlog.Hash) {
	for _, b := range all {
		out = append(out, hash(b))
	}
	return
}

// tiles reads tiles by C2SP tlog-tiles paths, which are Go's without the height.
type tiles struct {
	dir  string
	read int
}

func (t *tiles) Height() int                             { return 8 }
func (t *tiles) SaveTiles(tiles []tlog.Tile, _ [][]byte) {}
func (t *tiles) ReadTiles(all []tlog.Tile) (out [][]byte, err error) {
	for _, tile := range all {
		path := strings.TrimPrefix(tile.Path(), "tile/8/")
		data, err := os.ReadFile(filepath.Join(t.dir, path))
		if err != nil {
			return nil, err
		}
		t.read++
		out = append(out, data)
	}
	return
}

func must(err error, what ...interface{}) {
	if err != nil {
		log.Fatal(append(what, ": ", err)...)
	}
}

func main() {
	log.SetFlags(0)
	var in input
	must(json.NewDecoder(os.Stdin).Decode(&in), "input")
	var verifiers []note.Verifier
	for _, key := range in.Keys {
		verifier, err := note.NewVerifier(key)
		must(err, "key")
		verifiers = append(verifiers, verifier)
	}
	opened, err := note.Open([]byte(in.Note), note.VerifierList(verifiers...))
	must(err, "note")
	if len(opened.Sigs) != len(in.Keys) {
		log.Fatalf("%d of %d signatures", len(opened.Sigs), len(in.Keys))
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err, "size")
	root, err := base64.StdEncoding.DecodeString(lines[2])
	must(err, "root")
	tree := tlog.Tree{N: size, Hash: hash(root)}

	// The tree anew from the leaves, by Go; and from our tiles, each of which Go holds against the root.
	stored := []tlog.Hash{}
	reader := tlog.HashReaderFunc(func(indexes []int64) (out []tlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return
	})
	for i, leaf := range in.Leaves {
		more, err := tlog.StoredHashes(int64(i), leaf, reader)
		must(err, "leaf")
		stored = append(stored, more...)
	}
	own, err := tlog.TreeHash(int64(len(in.Leaves)), reader)
	must(err, "tree")
	if own != tree.Hash || size != int64(len(in.Leaves)) {
		log.Fatalf("Go has another root over %d leaves", len(in.Leaves))
	}
	source := &tiles{dir: os.Args[1]}
	tiled := tlog.TileHashReader(tree, source)
	for i, leaf := range in.Leaves {
		proof, err := tlog.ProveRecord(size, int64(i), tiled)
		must(err, "tiles, leaf ", i)
		must(tlog.CheckRecord(proof, size, tree.Hash, int64(i), tlog.RecordHash(leaf)), "record ", i)
	}
	for n := int64(1); n <= size; n++ {
		old, err := tlog.TreeHash(n, tiled)
		must(err, "tiles, tree ", n)
		proof, err := tlog.ProveTree(size, n, tiled)
		must(err, "tiles, tree ", n)
		must(tlog.CheckTree(proof, size, tree.Hash, n, old), "tree ", n)
	}
	for _, p := range in.Inclusion {
		must(tlog.CheckRecord(hashes(p.Proof), p.Size, hash(p.Root), p.Index, hash(p.Leaf)), "inclusion ", p.Index)
	}
	for _, p := range in.Consistency {
		must(tlog.CheckTree(hashes(p.Proof), p.New, hash(p.NewRoot), p.Old, hash(p.OldRoot)), "consistency ", p.Old)
	}

	private, public, err := note.GenerateKey(rand.Reader, "go.example/key")
	must(err)
	signer, err := note.NewSigner(private)
	must(err)
	signed, err := note.Sign(&note.Note{Text: opened.Text, Sigs: opened.Sigs}, signer)
	must(err)
	var out bytes.Buffer
	must(json.NewEncoder(&out).Encode(map[string]interface{}{
		"key": public, "note": string(signed), "tiles": source.read,
		"inclusion": len(in.Inclusion), "consistency": len(in.Consistency),
	}))
	fmt.Print(out.String())
}
