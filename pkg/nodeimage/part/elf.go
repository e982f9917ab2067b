// SPDX-License-Identifier: Apache-2.0

package part

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
)

// machines maps GOARCH to what an ELF header says.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkStatic returns an error unless the file is an executable for arch that
// needs neither a dynamic loader nor a shared library.
func checkStatic(path, arch string) error {
	libs, interpreter, err := inspectELF(path, arch)
	switch {
	case err != nil:
		return err
	case interpreter:
		return fmt.Errorf("%s is dynamically linked", path)
	case len(libs) > 0:
		return fmt.Errorf("%s needs shared libraries %q", path, libs)
	}
	return nil
}

// libcRe matches the libraries that Debian's package libc6 brings.
var libcRe = regexp.MustCompile(`^(lib(c|dl|m|pthread|resolv|rt)|ld-linux[-a-z0-9]*)\.so\.\d+$`)

// checkForDebian is checkStatic for a program that the root file system of a
// node runs: it may need the C library.
func checkForDebian(path, arch string) error {
	libs, _, err := inspectELF(path, arch)
	if err != nil {
		return err
	}
	for _, lib := range libs {
		if !libcRe.MatchString(lib) {
			return fmt.Errorf("%s needs the shared library %s, which nodes do not have", path, lib)
		}
	}
	return nil
}

// inspectELF returns the shared libraries that an executable for arch needs,
// and whether it has a dynamic loader.
func inspectELF(path, arch string) (libs []string, interpreter bool, err error) {
	f, err := elf.Open(path)
	var format *elf.FormatError
	switch {
	case errors.As(err, &format), errors.Is(err, io.EOF):
		return nil, false, fmt.Errorf("%s is no ELF executable", path)
	case err != nil:
		return nil, false, err
	}
	defer func() { _ = f.Close() }() // was only read
	if want, ok := machines[arch]; !ok || f.Machine != want {
		return nil, false, fmt.Errorf("%s is for %s, not for %s", path, f.Machine, arch)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, false, fmt.Errorf("%s is no executable (%s)", path, f.Type)
	}
	for _, p := range f.Progs {
		interpreter = interpreter || p.Type == elf.PT_INTERP
	}
	if libs, err = f.ImportedLibraries(); err != nil {
		libs = nil // it has no section of them
	}
	return libs, interpreter, nil
}

// describe returns the file at path with its size and digest.
func describe(name, path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer func() { _ = f.Close() }() // was only read
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return File{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return File{Name: name, Path: path, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}
