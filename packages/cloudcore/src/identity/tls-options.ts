import { constants } from 'node:crypto'
import type { TLSSocket, TlsOptions } from 'node:tls'
import { HoldfastError, parseNodeSubject, type NodeName } from '@holdfast/runtime'
import type { Authority } from './authority.ts'
import { identityLimits } from './limits.ts'

/**
 * TLS of a listener: 1.3 only, with the cluster's server certificate. On the tunnel a client certificate of this CA is
 * required, and a connection without one ends in the handshake. HTTPS asks for none: joining nodes have none yet.
 *
 * Sessions are not resumed (no tickets): every connection proves the certificate anew, and in TLS 1.3 that costs no
 * round trip.
 */
export function serverTlsOptions(authority: Authority, listener: 'tunnel' | 'https'): TlsOptions {
  const mutual = listener === 'tunnel'
  return {
    key: authority.server.key,
    cert: authority.server.certificate,
    minVersion: 'TLSv1.3',
    secureOptions: constants.SSL_OP_NO_TICKET,
    handshakeTimeout: identityLimits.joinRequestTimeoutSeconds.value * 1000,
    requestCert: mutual,
    rejectUnauthorized: mutual,
    ...mutual ? { ca: authority.caPem } : {}
  }
}

/**
 * The name of the node at the other end, from its certificate and nothing else (L10). The socket is one that a listener
 * with `serverTlsOptions(authority, 'tunnel')` accepted. Throws `NODE_CERTIFICATE_INVALID` where the certificate was
 * not verified, or does not name a node of this cluster.
 */
export function nodeNameOfPeer(socket: TLSSocket, authority: Authority): NodeName {
  if (!socket.authorized) {
    throw new HoldfastError('NODE_CERTIFICATE_INVALID',
      `the client's certificate is not one of this cluster (${String(socket.authorizationError)}): join it first`)
  }
  return nodeNameFromCertificate(socket.getPeerX509Certificate(), authority.clusterUid)
}

/** The name in a certificate whose chain has been verified. Throws `NODE_CERTIFICATE_INVALID`. */
export function nodeNameFromCertificate(
  certificate: { readonly subjectAltName: string | undefined } | undefined, clusterUid: string
): NodeName {
  const subject = parseNodeSubject(certificate?.subjectAltName)
  if (subject?.clusterUid !== clusterUid) {
    throw new HoldfastError('NODE_CERTIFICATE_INVALID',
      `the client's certificate names no node of cluster ${clusterUid}: connect with what \`holdfast join\` wrote`)
  }
  return subject.node
}
