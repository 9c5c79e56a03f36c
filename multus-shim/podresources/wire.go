// SPDX-License-Identifier: Apache-2.0

package podresources

import (
	"encoding/binary"
	"errors"
	"math"
)

// The wire format of protocol buffers (https://protobuf.dev/programming-guides/encoding):
// a tag of number and kind before each field. The library for it initialises itself at the
// start of every process, whether or not a kubelet is asked.
const (
	kindVarint = 0
	kind64     = 1
	kindBytes  = 2
	kind32     = 5
)

var errWire = errors.New("no message of protocol buffers")

func appendString(message []byte, number int, value string) []byte {
	message = binary.AppendUvarint(message, uint64(number)<<3|kindBytes)
	return append(binary.AppendUvarint(message, uint64(len(value))), value...)
}

// fields visits the length-delimited fields of a message and skips the others.
func fields(message []byte, visit func(int, []byte) error) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag>>3 == 0 || tag>>3 > math.MaxInt32 {
			return errWire
		}
		message = message[n:]
		var size uint64
		switch tag & 7 {
		case kindVarint:
			_, n := binary.Uvarint(message)
			if n <= 0 {
				return errWire
			}
			size = uint64(n)
		case kind64:
			size = 8
		case kind32:
			size = 4
		case kindBytes:
			length, n := binary.Uvarint(message)
			if n <= 0 {
				return errWire
			}
			message, size = message[n:], length
		default: // groups, which no Kubernetes API has
			return errWire
		}
		if size > uint64(len(message)) {
			return errWire
		}
		if tag&7 == kindBytes {
			if err := visit(int(tag>>3), message[:size]); err != nil {
				return err
			}
		}
		message = message[size:]
	}
	return nil
}
