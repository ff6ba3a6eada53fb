import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  type Clock, derBitString, derInteger, derObjectIdentifier, derSequence, derSet, derUtf8String, encodeDer, encodePem,
  type Log, type LogFields, silentLog, SystemClock
} from '@holdfast/runtime'
import { Authority, Joining, openJoinServer, Tokens } from '../index.ts'

/** The machine's clock, moved by hand. */
export class ShiftedClock extends SystemClock implements Clock {
  shiftMs = 0
  override wallMs(): number { return super.wallMs() + this.shiftMs }
  override monotonicMs(): number { return super.monotonicMs() + this.shiftMs }
}

/** Keeps what was logged, as `level message`. */
export class KeptLog implements Log {
  readonly lines: string[] = []
  readonly fields: (LogFields | undefined)[] = []
  debug(message: string, fields?: LogFields): void { this.#keep(`debug ${message}`, fields) }
  info(message: string, fields?: LogFields): void { this.#keep(`info ${message}`, fields) }
  warn(message: string, fields?: LogFields): void { this.#keep(`warn ${message}`, fields) }
  error(message: string, fields?: LogFields): void { this.#keep(`error ${message}`, fields) }
  with(): Log { return this }
  #keep(line: string, fields: LogFields | undefined): void {
    this.lines.push(line)
    this.fields.push(fields)
  }
}

/** A folder in the system's temporary one, removed at the end of its scope. */
export async function temporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-identity-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

export interface CloudOptions {
  readonly folder: string
  readonly serverNames?: readonly string[]
  readonly tunnelUrl?: string
  readonly tunnelPort?: () => number
}

/** The identity part of a cloudcore, with its HTTPS listener on a free port of 127.0.0.1. */
export class IdentityCloud implements AsyncDisposable {
  readonly authority: Authority
  readonly tokens: Tokens
  readonly joining: Joining
  readonly clock: ShiftedClock
  readonly log: KeptLog
  readonly port: number
  readonly #stop: () => Promise<void>

  private constructor(
    parts: Pick<IdentityCloud, 'authority' | 'tokens' | 'joining' | 'clock' | 'log' | 'port'>, stop: () => Promise<void>
  ) {
    this.authority = parts.authority
    this.tokens = parts.tokens
    this.joining = parts.joining
    this.clock = parts.clock
    this.log = parts.log
    this.port = parts.port
    this.#stop = stop
  }

  static async start(options: CloudOptions): Promise<IdentityCloud> {
    const clock = new ShiftedClock()
    const log = new KeptLog()
    const authority = await Authority.open(
      { folder: options.folder, serverNames: options.serverNames ?? [], hostname: 'cloud-host' }, { clock, log })
    const tokens = await Tokens.open({ folder: options.folder, ca: authority.ca }, { clock, log })
    const joining = new Joining({ tunnelUrl: options.tunnelUrl, tunnelPort: options.tunnelPort ?? (() => 10_000) },
      { authority, tokens, clock, log })
    const server = await openJoinServer({ host: '127.0.0.1', port: 0 }, { authority, joining, log: silentLog })
    return new IdentityCloud({ authority, tokens, joining, clock, log, port: server.port }, () => server.close())
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.#stop() }
}

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
}

export interface Call {
  readonly method?: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** One HTTPS request that trusts `ca` alone. */
export function call(port: number, ca: string, { method = 'GET', path, headers, body }: Call): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path, method, ca, agent: false, headers: { ...headers } } as const
    const sent = request(options, response => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => { text += chunk }).on('error', reject)
        .on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
    })
    sent.on('error', reject).end(body)
  })
}

/** `POST /v1/join`. */
export function callJoin(cloud: IdentityCloud, token: string, body: unknown): Promise<Reply> {
  return call(cloud.port, cloud.authority.caPem, {
    method: 'POST', path: '/v1/join', body: JSON.stringify(body),
    headers: { 'Authorization': `Bearer ${token}`, 'Content-Type': 'application/json' }
  })
}

export function p256(): KeyObject { return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey }

export function ed25519(): KeyObject { return generateKeyPairSync('ed25519').privateKey }

/** A certificate request for `publicKey` signed by `key`, which is its own unless the test lies. */
export function certificateRequest(key: KeyObject, commonName = 'anything', publicKey = createPublicKey(key)): string {
  const edwards = key.asymmetricKeyType === 'ed25519'
  const content = derSequence(
    derInteger(Buffer.from([0])),
    derSequence(derSet(derSequence(derObjectIdentifier('2.5.4.3'), derUtf8String(commonName)))),
    publicKey.export({ format: 'der', type: 'spki' }),
    encodeDer(0xa0)
  )
  const algorithm = derSequence(derObjectIdentifier(edwards ? '1.3.101.112' : '1.2.840.10045.4.3.2'))
  return encodePem('CERTIFICATE REQUEST',
    derSequence(content, algorithm, derBitString(sign(edwards ? null : 'sha256', content, key))))
}
