// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// elfFile returns the least of a dynamic ELF file that names an interpreter
// ("" for none) and libraries.
func elfFile(t *testing.T, interp string, needed ...string) string {
	t.Helper()
	const headerSize, progSize, sectionSize = 64, 56, 64
	strtab := "\x00"
	var dynamic []elf.Dyn64
	for _, lib := range needed {
		dynamic = append(dynamic, elf.Dyn64{Tag: int64(elf.DT_NEEDED), Val: uint64(len(strtab))})
		strtab += lib + "\x00"
	}
	dynamic = append(dynamic, elf.Dyn64{})
	interpAt := uint64(headerSize + progSize)
	strAt := interpAt + uint64(len(interp)) + 1
	dynAt := strAt + uint64(len(strtab))
	sectionsAt := dynAt + uint64(16*len(dynamic))

	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: headerSize, Shoff: sectionsAt,
		Ehsize: headerSize, Phentsize: progSize, Phnum: 1, Shentsize: sectionSize, Shnum: 3, Shstrndx: 1,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	prog := elf.Prog64{Type: uint32(elf.PT_NULL), Off: interpAt, Filesz: uint64(len(interp)) + 1}
	if interp != "" {
		prog.Type = uint32(elf.PT_INTERP)
	}
	sections := []elf.Section64{
		{},
		{Type: uint32(elf.SHT_STRTAB), Off: strAt, Size: uint64(len(strtab))},
		{Type: uint32(elf.SHT_DYNAMIC), Off: dynAt, Size: uint64(16 * len(dynamic)), Link: 1, Entsize: 16},
	}
	out := &bytes.Buffer{}
	for _, part := range []any{h, prog, []byte(interp + "\x00" + strtab), dynamic, sections} {
		if err := binary.Write(out, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// sampleDebian is a base with a program, its libraries and a merged /usr.
func sampleDebian(t *testing.T, status string) *debian {
	t.Helper()
	const libs = "/usr/lib/x86_64-linux-gnu/"
	base := newTree()
	base.link("/lib64", "usr/lib64")
	base.link("/usr/lib64/ld.so.2", "../lib/x86_64-linux-gnu/ld.so.2")
	base.data(libs+"ld.so.2", 0o755, []byte(elfFile(t, "")))
	base.data("/usr/sbin/nft", 0o755, []byte(elfFile(t, "/lib64/ld.so.2", "liba.so.1")))
	base.link(libs+"liba.so.1", "liba.so.1.2.3")
	base.data(libs+"liba.so.1.2.3", 0o644, []byte(elfFile(t, "", "libb.so.6")))
	base.data(libs+"libb.so.6", 0o644, []byte(elfFile(t, "")))
	base.data(libs+"unneeded.so", 0o644, []byte("x"))
	base.data("/usr/bin/broken", 0o755, []byte(elfFile(t, "", "libmissing.so.1")))
	base.link("/usr/bin/loop", "loop")
	base.data("/etc/ssl/ca.crt", 0o644, []byte("certificates"))
	base.data("/usr/bin/perl", 0o755, []byte("perl"))
	base.add(tar.Header{Typeflag: tar.TypeLink, Name: "/usr/bin/perl5", Linkname: "/usr/bin/perl", Mode: 0o755}, nil)
	base.data("/var/lib/dpkg/status", 0o644, []byte(status))
	path := filepath.Join(t.TempDir(), baseFile)
	if err := create(path, func(w io.Writer) error { return base.write(w, epoch) }); err != nil {
		t.Fatal(err)
	}
	d, err := openDebian(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPick(t *testing.T) {
	t.Parallel()
	d := sampleDebian(t, "")
	picked, err := d.pick([]string{"/usr/sbin/nft", "/etc/ssl/*.crt"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range picked.paths() {
		if picked.entries[p].header.Typeflag != tar.TypeDir {
			got = append(got, p)
		}
	}
	want := []string{
		"/etc/ssl/ca.crt",
		"/lib64",
		"/usr/lib/x86_64-linux-gnu/ld.so.2",
		"/usr/lib/x86_64-linux-gnu/liba.so.1",
		"/usr/lib/x86_64-linux-gnu/liba.so.1.2.3",
		"/usr/lib/x86_64-linux-gnu/libb.so.6",
		"/usr/lib64/ld.so.2",
		"/usr/sbin/nft",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if got := content(t, picked, "/etc/ssl/ca.crt"); got != "certificates" {
		t.Errorf("content %q", got)
	}
}

func TestPickHardLink(t *testing.T) {
	t.Parallel()
	picked, err := sampleDebian(t, "").pick([]string{"/usr/bin/perl5"})
	if err != nil {
		t.Fatal(err)
	}
	e := picked.entries["/usr/bin/perl5"]
	if e.header.Typeflag != tar.TypeReg || content(t, picked, "/usr/bin/perl5") != "perl" {
		t.Errorf("a hard link became %+v", e.header)
	}
}

func TestPickErrors(t *testing.T) {
	t.Parallel()
	d := sampleDebian(t, "")
	for pattern, want := range map[string]string{
		"/usr/bin/none": "nothing in the Debian base matches /usr/bin/none",
		"/usr/bin/b*":   "/usr/bin/broken needs it: there is no libmissing.so.1",
		"/usr/bin/loop": "too many links",
	} {
		if _, err := d.pick([]string{pattern}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("pick(%q): error %v, want one with %q", pattern, err, want)
		}
	}
}

func TestDebianVersion(t *testing.T) {
	t.Parallel()
	d := sampleDebian(t, `Package: bash
Version: 5.2-1

Package: busybox-static
Depends: x
Version: 1:1.37.0-6+b9

Package: native
Version: 20230311
`)
	for pkg, want := range map[string]string{"busybox-static": "1.37.0", "bash": "5.2", "native": "20230311"} {
		got, err := d.version(pkg)
		if err != nil || got != want {
			t.Errorf("version(%s) = %q, %v; want %q", pkg, got, err, want)
		}
	}
	if _, err := d.version("busybox"); err == nil || !strings.Contains(err.Error(), "package busybox is not in the Debian base") {
		t.Errorf("error %v, want one that names the package", err)
	}
}
