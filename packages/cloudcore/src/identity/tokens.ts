import { createHash, randomBytes, timingSafeEqual, type X509Certificate } from 'node:crypto'
import { readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Clock, type Log, type NodeName, describeError, formatTimestamp, HoldfastError, nodeNameRule, parseNodeName,
  privateFileMode, writeFileAtomic
} from '@holdfast/runtime'
import type { IdentityErrorCode } from './error-codes.ts'
import { identityLimits } from './limits.ts'

/** What the operations endpoint answers to a request for a token. The only place where the token can be read. */
export interface CreatedToken {
  /** `hf1.<base64url SHA-256 of the CA certificate, DER>.<id>.<secret>`. */
  readonly token: string
  readonly id: string
  /** RFC 3339. */
  readonly expires: string
  readonly uses: number
  /** The only node that may join with it; null where any may. */
  readonly node: NodeName | null
}

/** A token as it is kept: of the secret, only the hash. */
interface StoredToken {
  readonly id: string
  readonly secretSha256: string
  readonly createdMs: number
  readonly expiresMs: number
  readonly node: NodeName | null
  usesLeft: number
  /** Latest joins, oldest first: the same key under the same name may ask again when the answer was lost. */
  joins: { readonly node: NodeName; readonly publicKeySha256: string }[]
}

interface TokenFile { readonly version: 1; readonly tokens: StoredToken[] }

/** A token that was presented with its secret. It may still be expired, used up, or another node's. */
export interface AuthenticToken { readonly id: string }

const fileName = 'tokens.json'
const dayMs = 86_400_000
const lifeSecondsDefault = 86_400

/**
 * The join tokens of a cluster, in `tokens.json` of the identity folder.
 *
 * A token pins the CA, so that a node can check whom it talks to before it says the secret, and proves that somebody
 * with access to the operations endpoint wanted this join. Its 256 random secret bits are kept as a SHA-256 hash only:
 * nothing slower is of use against so many bits. A use is on disk before a certificate is issued for it.
 */
export class Tokens {
  readonly #path: string
  readonly #prefix: string
  readonly #clock: Clock
  #tokens: StoredToken[]
  #turn: Promise<unknown> = Promise.resolve()

  private constructor(path: string, ca: X509Certificate, clock: Clock, tokens: StoredToken[]) {
    this.#path = path
    this.#prefix = `hf1.${createHash('sha256').update(ca.raw).digest('base64url')}.`
    this.#clock = clock
    this.#tokens = tokens
  }

  /**
   * Reads what an earlier start kept. A damaged file is moved aside and its tokens are gone, loudly: joining needs a
   * new one, nothing else does (L11). Rejects with `IDENTITY_UNREADABLE`.
   */
  static async open(
    options: { readonly folder: string; readonly ca: X509Certificate },
    components: { readonly clock: Clock; readonly log: Log }
  ): Promise<Tokens> {
    const path = join(options.folder, fileName)
    let text: string | undefined
    try {
      text = await readFile(path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        throw failure('IDENTITY_UNREADABLE',
          `${path}: ${describeError(error)}: give the file to the user that cloudcore runs as`, error)
      }
    }
    const tokens = text === undefined ? [] : parseTokens(text)
    if (tokens === undefined) {
      await rename(path, `${path}.corrupt`)
      components.log.error('the join tokens cannot be read; make new ones', { path, moved: `${path}.corrupt` })
    }
    return new Tokens(path, options.ca, components.clock, tokens ?? [])
  }

  /**
   * Makes a token; on disk when it resolves. `body` is the parsed JSON of `POST /v1/tokens`, all fields optional:
   * `{ ttlSeconds: 1 to a year (24 h), uses: 1 to 10,000 (1), node: string }`.
   * Rejects with `TOKEN_REQUEST_INVALID` or `TOKENS_FULL`.
   */
  create(body: unknown): Promise<CreatedToken> {
    const { ttlSeconds, uses, node } = parseTokenRequest(body)
    return this.#inTurn(async () => {
      const nowMs = this.#clock.wallMs()
      const id = randomBytes(6).toString('hex')
      const secret = randomBytes(32).toString('base64url')
      const expiresMs = nowMs + ttlSeconds * 1000
      const keptMs = identityLimits.joinTokenKeptDays.value * dayMs
      const kept = this.#tokens.filter(token => nowMs < token.expiresMs + keptMs)
      if (kept.length >= identityLimits.joinTokens.value) {
        const stale = kept.findIndex(token => token.usesLeft === 0 || token.expiresMs <= nowMs)
        if (stale < 0) {
          throw failure('TOKENS_FULL', `${kept.length} usable join tokens exist, the most that are kept: use one of ` +
            'them, or wait until some expire')
        }
        kept.splice(stale, 1)
      }
      const secretSha256 = sha256(secret).toString('hex')
      await this.#replace(
        [...kept, { id, secretSha256, createdMs: nowMs, expiresMs, node, usesLeft: uses, joins: [] }])
      return { token: `${this.#prefix}${id}.${secret}`, id, expires: formatTimestamp(expiresMs), uses, node }
    })
  }

  /**
   * Finds the token that `presented` proves to hold, in memory and in constant time for the secret. Throws
   * `TOKEN_UNKNOWN`, which also stands for a token of another cluster.
   */
  authenticate(presented: string): AuthenticToken {
    const [, , id, secret, ...rest] = presented.length > 256 ? [] : presented.split('.')
    const hash = sha256(secret ?? '')
    const token = this.#tokens.find(known => known.id === id)
    const fits = timingSafeEqual(hash, token === undefined ? Buffer.alloc(32) : Buffer.from(token.secretSha256, 'hex'))
    if (token === undefined || !fits || rest.length > 0 || !presented.startsWith(this.#prefix)) {
      throw failure('TOKEN_UNKNOWN',
        'the join token is not known here: make one with `holdfast token create` at this cloudcore')
    }
    return { id: token.id }
  }

  /**
   * Counts a use of the token for this node and key; on disk when it resolves. The same key under the same name again
   * is not another use. Rejects with `TOKEN_EXPIRED`, `TOKEN_WRONG_NODE`, `TOKEN_USED_UP`, `TOKEN_UNKNOWN` (forgotten
   * meanwhile), or `JOIN_NOT_STORED`, when nothing was counted.
   */
  use({ id }: AuthenticToken, node: NodeName, publicKeySha256: string): Promise<void> {
    return this.#inTurn(async () => {
      const token = this.#tokens.find(known => known.id === id)
      if (token === undefined) throw failure('TOKEN_UNKNOWN', `join token ${id} was forgotten: make a new one`)
      if (this.#clock.wallMs() >= token.expiresMs) {
        throw failure('TOKEN_EXPIRED',
          `join token ${id} expired at ${formatTimestamp(token.expiresMs)}: make a new one`)
      }
      if (token.node !== null && token.node !== node) {
        throw failure('TOKEN_WRONG_NODE', `join token ${id} is for node "${token.node}", not for "${node}"`)
      }
      if (token.joins.some(join => join.node === node && join.publicKeySha256 === publicKeySha256)) return
      if (token.usesLeft === 0) throw failure('TOKEN_USED_UP', `join token ${id} has been used: make a new one`)
      const joins = [...token.joins, { node, publicKeySha256 }].slice(-identityLimits.joinRetriesRemembered.value)
      try {
        await this.#replace(this.#tokens.map(known =>
          known === token ? { ...token, usesLeft: token.usesLeft - 1, joins } : known))
      } catch (error) {
        throw failure('JOIN_NOT_STORED',
          `${this.#path}: ${describeError(error)}: nothing was issued; join again later`, error)
      }
    })
  }

  async #replace(tokens: StoredToken[]): Promise<void> {
    await writeFileAtomic(this.#path, JSON.stringify({ version: 1, tokens } satisfies TokenFile), privateFileMode)
    this.#tokens = tokens
  }

  /** One change at a time: each reads what the one before has written. */
  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(change)
    this.#turn = result.catch(() => undefined)
    return result
  }
}

const requestFields = ['ttlSeconds', 'uses', 'node']

function parseTokenRequest(body: unknown): { ttlSeconds: number; uses: number; node: NodeName | null } {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw failure('TOKEN_REQUEST_INVALID', 'expected a JSON object such as {"uses": 1}')
  }
  const fields = body as Record<string, unknown>
  const unknown = Object.keys(fields).find(name => !requestFields.includes(name))
  if (unknown !== undefined) {
    throw failure('TOKEN_REQUEST_INVALID',
      `unknown field "${unknown.slice(0, 64)}": expected ${requestFields.join(', ')}`)
  }
  const node = fields['node'] === undefined || fields['node'] === null ? null : parseNodeName(fields['node'])
  if (node === undefined) throw failure('TOKEN_REQUEST_INVALID', `node: expected ${nodeNameRule}`)
  return {
    ttlSeconds: wholeNumber('ttlSeconds', fields, lifeSecondsDefault, identityLimits.joinTokenLifeSeconds.value),
    uses: wholeNumber('uses', fields, 1, identityLimits.joinTokenUses.value),
    node
  }
}

function wholeNumber(name: string, fields: Record<string, unknown>, fallback: number, max: number): number {
  const value = fields[name] ?? fallback
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > max) {
    throw failure('TOKEN_REQUEST_INVALID', `${name}: expected a whole number from 1 to ${max}, got ${
      JSON.stringify(value).slice(0, 64)}`)
  }
  return value
}

function parseTokens(text: string): StoredToken[] | undefined {
  try {
    const file = JSON.parse(text) as Partial<TokenFile>
    const { version, tokens } = file
    return version === 1 && Array.isArray(tokens) && tokens.every(isStoredToken) ? tokens : undefined
  } catch {
    return undefined
  }
}

function isStoredToken(value: unknown): value is StoredToken {
  const token = value as Partial<StoredToken> | null
  return typeof token === 'object' && token !== null && typeof token.id === 'string' &&
    typeof token.secretSha256 === 'string' && /^[0-9a-f]{64}$/.test(token.secretSha256) &&
    Number.isFinite(token.createdMs) && Number.isFinite(token.expiresMs) && Number.isInteger(token.usesLeft) &&
    (token.node === null || parseNodeName(token.node) !== undefined) && Array.isArray(token.joins) &&
    token.joins.every(join => typeof join?.node === 'string' && typeof join.publicKeySha256 === 'string')
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest()

const failure = (code: IdentityErrorCode, message: string, cause?: unknown): HoldfastError<IdentityErrorCode> =>
  new HoldfastError(code, message, cause === undefined ? undefined : { cause })
