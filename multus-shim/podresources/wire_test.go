// SPDX-License-Identifier: Apache-2.0

package podresources

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

type field struct {
	number int
	value  string
}

func ours(message []byte) (found []field, err error) {
	err = fields(message, func(number int, value []byte) error {
		found = append(found, field{number, string(value)})
		return nil
	})
	return found, err
}

// library reads a message with the library for it. Groups, which ours refuses, are told.
func library(message []byte) (found []field, groups bool, err error) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return found, groups, protowire.ParseError(n)
		}
		message = message[n:]
		if kind == protowire.StartGroupType || kind == protowire.EndGroupType {
			return found, true, nil
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return found, groups, protowire.ParseError(n)
		}
		if kind == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			found = append(found, field{int(number), string(value)})
		}
		message = message[n:]
	}
	return found, false, nil
}

// Ours reads what the library reads, and refuses what it refuses.
func FuzzFields(f *testing.F) {
	f.Add(appendString(nil, 1, "pod"))
	f.Add([]byte{0x08, 0x96, 0x01, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1d, 1, 2, 3, 4, 0x22, 1, 'x'})
	for _, bad := range [][]byte{
		{0x00}, {0x0a}, {0x0a, 2, 'x'}, {0x08}, {0x09, 1}, {0x0d, 1}, {0x0b, 0x0c}, {0x0e}, {0x0f},
		{0x80}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, {0xfa, 0xff, 0xff, 0xff, 0xff, 0x01, 0},
		{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, {0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02},
	} {
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		want, groups, libraryErr := library(message)
		have, err := ours(message)
		switch {
		case groups:
			require.Error(t, err)
		case libraryErr != nil:
			require.Error(t, err)
		default:
			require.NoError(t, err)
			assert.Equal(t, want, have)
		}
	})
}

func TestFieldsOfRandomMessages(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		message := make([]byte, random.IntN(12))
		for i := range message {
			message[i] = byte(random.IntN(40))
		}
		want, groups, libraryErr := library(message)
		have, err := ours(message)
		require.Equal(t, groups || libraryErr != nil, err != nil, "%x", message)
		if err == nil {
			require.Equal(t, want, have, "%x", message)
		}
	}
}
