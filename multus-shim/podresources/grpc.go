// SPDX-License-Identifier: Apache-2.0

package podresources

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// maxReply bounds a List of all pods of a node, bytes.
const maxReply = 16 << 20

// statusError is an answer of the service other than OK.
type statusError struct{ method, code, message string }

func (e statusError) Error() string {
	return fmt.Sprintf("kubelet pod-resources %s: status %s: %s", e.method, e.code, e.message)
}

type client struct{ http *http.Client }

func dial(socket string) client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return client{&http.Client{Transport: &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// call makes a unary gRPC call (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
func (c client) call(ctx context.Context, method string, message []byte) ([]byte, error) {
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost,
		"http://kubelet/v1.PodResourcesLister/"+method, bytes.NewReader(append(frame, message...)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("kubelet pod-resources %s: HTTP %s", method, resp.Status)
	case len(body) > maxReply:
		return nil, fmt.Errorf("kubelet pod-resources %s: reply of more than %d bytes", method, maxReply)
	}
	trailer := resp.Trailer
	if resp.Header.Get("Grpc-Status") != "" { // an answer without a message
		trailer = resp.Header
	}
	if code := trailer.Get("Grpc-Status"); code != "0" {
		return nil, statusError{method, code, trailer.Get("Grpc-Message")}
	}
	const header = 5 // one byte of flags, four of length
	if len(body) < header || body[0] != 0 || uint64(len(body)-header) != uint64(binary.BigEndian.Uint32(body[1:header])) {
		return nil, errors.New("kubelet pod-resources " + method + ": not one uncompressed message")
	}
	return body[header:], nil
}
