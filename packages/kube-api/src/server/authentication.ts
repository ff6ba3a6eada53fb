import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { TLSSocket } from 'node:tls'
import { unauthorized } from './refusals.ts'

/** Who sends a request. */
export interface User {
  readonly name: string
  readonly groups: readonly string[]
}

export const anonymous: User = { name: 'system:anonymous', groups: ['system:unauthenticated'] }

/** A bearer token and whom it stands for. */
export interface TokenUser {
  readonly token: string
  readonly user: User
}

const digest = (token: string): Buffer => createHash('sha256').update(token).digest()

/**
 * Tells who sends a request: the bearer token if there is one, else the client certificate, else nobody. The tokens are
 * kept as hashes, and every one is compared, so that the time tells nothing about them.
 */
export class Authentication {
  readonly #tokens: readonly { readonly hash: Buffer, readonly user: User }[]

  constructor(tokens: readonly TokenUser[]) {
    this.#tokens = tokens.map(({ token, user }) => ({ hash: digest(token), user }))
  }

  /** Throws 401 where a token is not known. */
  userOf(request: IncomingMessage): User {
    const { authorization } = request.headers
    if (authorization !== undefined) return this.#userOfToken(authorization)
    return userOfCertificate(request) ?? anonymous
  }

  #userOfToken(authorization: string): User {
    const token = /^bearer +(\S+) *$/i.exec(authorization)?.[1]
    if (token === undefined) throw unauthorized()
    const hash = digest(token)
    let found: User | undefined
    for (const known of this.#tokens) if (timingSafeEqual(known.hash, hash)) found = known.user
    if (found === undefined) throw unauthorized()
    return found
  }
}

/** The user of a certificate that the TLS layer has verified: CN is the name, every O a group. */
function userOfCertificate({ socket }: IncomingMessage): User | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined
  const subject = socket.getPeerCertificate().subject as { CN?: string | string[], O?: string | string[] } | undefined
  const name = [subject?.CN ?? []].flat()[0]
  if (name === undefined || name === '') return undefined
  return { name, groups: [...[subject?.O ?? []].flat(), 'system:authenticated'] }
}
