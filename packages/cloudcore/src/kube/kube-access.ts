import type { RequestOptions } from 'node:https'
import { readFile } from 'node:fs/promises'
import { dirname, isAbsolute, join } from 'node:path'
import { getCACertificates } from 'node:tls'
import type * as clientNode from '@kubernetes/client-node'
import type { Cluster, KubeConfig, RequestContext, User } from '@kubernetes/client-node'
import { describeError, HoldfastError } from '@holdfast/runtime'
import { InProcessTransport, type InProcessApi } from './in-process-transport.ts'
import { isJsonObject } from './kube-error.ts'
import type { KubeTransport, TransportAnswer, TransportRequest } from './kube-transport.ts'
import { unlessAborted } from './unless-aborted.ts'

/** Where a Kubernetes API is, and as whom it is spoken to. */
export type KubeAccess =
  /** A kubeconfig; its current context, or the one that is named. */
  | { readonly kind: 'file', readonly path: string, readonly context?: string | undefined }
  /** The service account of the Pod that this process runs in. */
  | { readonly kind: 'in-cluster' }
  | { readonly kind: 'in-process', readonly api: InProcessApi }

type RemoteAccess = Exclude<KubeAccess, { readonly kind: 'in-process' }>
type Library = typeof clientNode
/** Of the library's HTTP layer: connections to one server, with one set of TLS material. */
type Dispatcher = NonNullable<ReturnType<RequestContext['getDispatcher']>>

/** Loads what the access needs, and tries the credentials; the server is not asked. Rejects with `KUBE_CONFIG_INVALID`. */
export async function openTransport(access: KubeAccess): Promise<KubeTransport> {
  return access.kind === 'in-process' ? new InProcessTransport(access.api) : await KubeConnection.open(access)
}

/**
 * Costs some 60 MB and holds the event loop up for half a second and more: to be called before anybody is connected, where it will be
 * used, and not at all where it will not.
 */
export async function loadKubeLibrary(): Promise<Library> { return await import('@kubernetes/client-node') }

/** What one request is sent with. */
interface Credentials {
  readonly dispatcher: Dispatcher
  readonly headers: Readonly<Record<string, string>>
}

/**
 * The library's configuration and authentication. Tokens and certificates that are in files are read again as they are
 * renewed (a token after a minute at the latest), without a connection more than that needs: the library by itself would
 * connect anew for every request.
 */
class KubeConnection implements KubeTransport {
  readonly server: string
  readonly #origin: string
  readonly #prefix: string
  readonly #library: Library
  readonly #config: KubeConfig
  #dispatcher: Dispatcher | undefined
  /** The TLS material of `#dispatcher`, as text. */
  #material = ''
  #reading: Promise<Credentials> | undefined

  private constructor(library: Library, config: KubeConfig) {
    this.#library = library
    this.#config = config
    this.server = config.getCurrentCluster()!.server.replace(/\/+$/, '')
    const { origin, pathname } = new URL(this.server)
    this.#origin = origin
    this.#prefix = pathname.replace(/\/$/, '')
  }

  /** Loads the library and tries the credentials. Rejects with `KUBE_CONFIG_INVALID`. */
  static async open(access: RemoteAccess): Promise<KubeConnection> {
    const library = await loadKubeLibrary()
    const connection = new KubeConnection(library, await loadConfig(library, access))
    try {
      await connection.#credentials()
    } catch (error) {
      throw invalid(`${connection.server}: the credentials: ${describeError(error)}`, error)
    }
    return connection
  }

  async request({ method, path, headers: own, body }: TransportRequest, signal: AbortSignal): Promise<TransportAnswer> {
    const { dispatcher, headers } = await unlessAborted(this.#credentials(), signal)
    const request = {
      origin: this.#origin, path: this.#prefix + path, method, headers: { ...own, ...headers }, ...body !== undefined && { body },
      signal, headersTimeout: 0, bodyTimeout: 0, allowH2: false
    }
    const answer = await dispatcher.request(request)
    // Whoever reads it hears of its errors; where nobody reads on, they are nobody's.
    answer.body.on('error', () => undefined)
    return { status: answer.statusCode, headers: answer.headers, body: answer.body }
  }

  /**
   * Rejects with whatever the credentials' files or programs have to say. A program has the time that it takes, and is run once
   * for all who ask meanwhile.
   */
  #credentials(): Promise<Credentials> {
    this.#reading ??= this.#read().finally(() => { this.#reading = undefined })
    return this.#reading
  }

  async #read(): Promise<Credentials> {
    const applied: RequestOptions = {}
    await this.#config.applyToHTTPSOptions(applied)
    const headers: Record<string, string> = {}
    for (const [name, value] of Object.entries(applied.headers ?? {})) headers[name.toLowerCase()] = String(value).trim()
    if (typeof applied.auth === 'string') headers['authorization'] = `Basic ${Buffer.from(applied.auth).toString('base64')}`
    const material = JSON.stringify([applied.ca, applied.cert, applied.key, applied.pfx, applied.passphrase].map(String))
    if (this.#dispatcher === undefined || material !== this.#material) {
      const context = new this.#library.RequestContext(this.server, this.#library.HttpMethod.GET)
      await this.#config.applySecurityAuthentication(context)
      // Requests under way keep the old one; its connections end when they are idle.
      this.#dispatcher = context.getDispatcher()!
      this.#material = material
    }
    return { dispatcher: this.#dispatcher, headers }
  }

  async close(): Promise<void> { await this.#dispatcher?.destroy() }
}

async function loadConfig(library: Library, access: RemoteAccess): Promise<KubeConfig> {
  const config = new library.KubeConfig()
  let tokenFile: string | undefined
  switch (access.kind) {
    case 'file':
      tokenFile = await loadFile(library, config, access)
      break
    case 'in-cluster':
      config.loadFromCluster()
      if (config.getCurrentCluster()!.server.includes('undefined')) {
        throw invalid('this process does not run in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set')
      }
  }
  const cluster = config.getCurrentCluster()
  const user = config.getCurrentUser()
  const named = `context ${JSON.stringify(config.getCurrentContext() ?? '')}`
  if (cluster === null) throw invalid(`${originOf(access)}: ${named} names no cluster that is there`)
  if (user === null) throw invalid(`${originOf(access)}: ${named} names no user that is there`)
  if (!URL.canParse(cluster.server) || !/^https?:$/.test(new URL(cluster.server).protocol)) {
    throw invalid(`${originOf(access)}: server: expected https://host:port, got ${JSON.stringify(cluster.server)}`)
  }
  const settled = new library.KubeConfig()
  settled.loadFromClusterAndUser(settleCluster(cluster), settleUser(user, tokenFile))
  return settled
}

/** The current user's `tokenFile`, of which the library takes no notice. */
async function loadFile(
  library: Library, config: KubeConfig, { path, context }: KubeAccess & { readonly kind: 'file' }
): Promise<string | undefined> {
  try {
    const text = await readFile(path, 'utf8')
    config.loadFromString(text)
    config.makePathsAbsolute(dirname(path))
    if (context !== undefined) config.setCurrentContext(context)
    if (config.getContextObject(config.getCurrentContext()) === null) {
      throw new Error(`there is no context ${JSON.stringify(config.getCurrentContext() ?? '')}`)
    }
    const { users } = library.loadYaml<{ users?: unknown }>(text)
    const current = config.getCurrentUser()?.name
    for (const each of Array.isArray(users) ? users as unknown[] : []) {
      if (!isJsonObject(each) || each['name'] !== current || !isJsonObject(each['user'])) continue
      const { tokenFile } = each['user']
      if (typeof tokenFile === 'string' && tokenFile !== '') return isAbsolute(tokenFile) ? tokenFile : join(dirname(path), tokenFile)
    }
    return undefined
  } catch (error) {
    throw invalid(`${path}: ${describeError(error)}`, error)
  }
}

/** As kubectl takes it: plain HTTP has nothing to verify; without a CA of its own, a server is verified by Node's. */
function settleCluster(cluster: Cluster): Cluster {
  if (cluster.server.startsWith('http:')) return { ...cluster, skipTLSVerify: true }
  if (cluster.skipTLSVerify || cluster.caFile || cluster.caData) return cluster
  return { ...cluster, caData: Buffer.from(getCACertificates('default').join('\n')).toString('base64') }
}

/** A token in the kubeconfig goes before one in a file, as with kubectl. */
function settleUser(user: User, tokenFile: string | undefined): User {
  return tokenFile === undefined || user.token ? user : { ...user, authProvider: { name: 'tokenFile', config: { tokenFile } } }
}

const originOf = (access: RemoteAccess): string => access.kind === 'file' ? access.path : access.kind

function invalid(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError('KUBE_CONFIG_INVALID', message, cause === undefined ? undefined : { cause })
}
