//! PortOne V1: client, token, wire format, classification.
