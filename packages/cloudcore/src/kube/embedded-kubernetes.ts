import { chmod, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describeError, hasCode, listenFailure, privateFileMode, writeFileAtomic } from '@holdfast/runtime'
import type { Clock, Failpoint, Log, Random, Service } from '@holdfast/runtime'
import { EmbeddedKubeApi, StatusError, salvageObjects, writeKubeconfig } from '@holdfast/kube-api'
import { Database, FileDiskSpace, levelStoreOpener } from '@holdfast/store'
import type { Authority } from '../identity/index.ts'
import { installDeviceKinds } from './device-kinds-install.ts'
import type { KubeAccess } from './kube-access.ts'
import { RestClient } from './rest-client.ts'

export interface EmbeddedKubernetesOptions {
  readonly dataDir: string
  readonly host: string
  /** 0: any free port. */
  readonly port: number
  /** Below this much free space nothing that grows is taken. */
  readonly freeFloorBytes: number
  /** Release of this software. */
  readonly version: string
  /** As Kubernetes calls it: `linux/arm64`. */
  readonly platform: string
}

export interface EmbeddedKubernetesComponents {
  readonly authority: Pick<Authority, 'folder' | 'caPem' | 'server'>
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly failpoint?: Failpoint
}

/** For each request that installs device kinds: a disk that hangs keeps nobody waiting for long. */
const installMs = 5000

const administrator = { name: 'holdfast:admin', groups: ['system:masters', 'system:authenticated'] }
const controllers = { name: 'holdfast:cloudcore', groups: ['system:authenticated'] }

/**
 * The Kubernetes API that cloudcore serves where there is no cluster. Its objects are in a database of their own,
 * `<data dir>/objects`, so that neither they nor the cloud log can damage the other.
 *
 * HTTPS with the certificate of the cluster's own authority; bearer tokens only, since the authority's client certificates are
 * those of nodes, which have no business here. `<data dir>/kubeconfig` (0600) is written at every start and holds the
 * administrator's token, which stays the same: `identity/kube-admin.token`. cloudcore's own controllers need neither: they ask within
 * the process.
 */
export class EmbeddedKubernetes implements Service, AsyncDisposable {
  readonly name = 'kube-api'
  readonly api: EmbeddedKubeApi
  readonly database: Database
  readonly kubeconfigPath: string
  /** For cloudcore's own controllers. */
  readonly access: KubeAccess
  #closed: Promise<void> | undefined

  private constructor(api: EmbeddedKubeApi, database: Database, kubeconfigPath: string, access: KubeAccess) {
    this.api = api
    this.database = database
    this.kubeconfigPath = kubeconfigPath
    this.access = access
  }

  /** Installs the device kinds. Rejects with `LISTEN_FAILED`, with `OBJECT_FORMAT_NEWER`, or where the data directory cannot be written. */
  static async open(options: EmbeddedKubernetesOptions, components: EmbeddedKubernetesComponents): Promise<EmbeddedKubernetes> {
    const { dataDir, host, port, freeFloorBytes, version, platform } = options
    const { authority, clock, random, failpoint } = components
    const log = components.log.with({ database: 'objects' })
    const adminToken = await loadToken(join(authority.folder, 'kube-admin.token'), random)
    const database = await Database.open({ freeFloorBytes }, {
      opener: levelStoreOpener({ path: join(dataDir, 'objects'), quarantineDir: join(dataDir, 'quarantine') }, { log, clock }),
      space: new FileDiskSpace(join(dataDir, 'objects.ballast'), 0),
      clock,
      log,
      salvage: async (entries, store) => ({ ...await salvageObjects(entries, store) }),
      ...failpoint !== undefined && { failpoint }
    })
    let api: EmbeddedKubeApi | undefined
    database.onReopened(async (store, suspect) => { await api?.reopen(store, suspect) })
    try {
      api = await EmbeddedKubeApi.open({
        server: {
          name: 'kube-api', host, port,
          tls: { certificatePem: authority.server.certificate, keyPem: authority.server.key },
          tokens: [{ token: adminToken, user: administrator }],
          version: {
            major: '1', minor: '32', gitVersion: `v1.32.0+holdfast.${version}`, gitCommit: '', buildDate: '1970-01-01T00:00:00Z',
            platform
          }
        },
        objects: { suspect: database.suspect }
      }, { store: database.store, committer: database.committer, clock, random, log })
      await database.trust()
      const { objects, server } = api
      database.onLow(low => objects.refuseGrowth(low ? diskFull(dataDir, freeFloorBytes) : undefined))
      const kubeconfigPath = join(dataDir, 'kubeconfig')
      await writeKubeconfig(kubeconfigPath, {
        name: 'holdfast', server: server.url, caPem: authority.caPem, token: adminToken
      })
      const access: KubeAccess = {
        kind: 'in-process', api: { url: server.url, answer: exchange => server.answer(exchange, controllers) }
      }
      await installKinds(api, access, components)
      return new EmbeddedKubernetes(api, database, kubeconfigPath, access)
    } catch (error) {
      await api?.close()
      await database.close()
      if (hasCode(error, 'LISTEN_FAILED')) throw listenFailure('kube', { host, port }, (error as Error).cause)
      throw error
    }
  }

  get url(): string { return this.api.server.url }

  /** Why nothing can be stored now; undefined where it can. */
  get failure(): Error | undefined { return this.database.committer.failure }

  async run(signal: AbortSignal): Promise<void> {
    if (!signal.aborted) await new Promise<void>(resolve => { signal.addEventListener('abort', () => resolve(), { once: true }) })
    await this.close()
  }

  async [Symbol.asyncDispose](): Promise<void> { await this.close() }

  /** Ends requests and watches, commits what waits. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    await this.api.close()
    await this.database.close()
  }
}

/** As kubectl would; without them all but devices is served, so that no failure keeps cloudcore from starting. */
async function installKinds(
  api: EmbeddedKubeApi, access: KubeAccess, { clock, random, log }: EmbeddedKubernetesComponents
): Promise<void> {
  try {
    await using client = await RestClient.open({ access, requestMs: installMs }, { clock, random })
    const written = await installDeviceKinds(client)
    if (written.length === 0) return
    log.info('the kinds of devices are installed', { written })
    await api.idle()
  } catch (error) {
    log.error('the kinds of devices cannot be installed; everything else is served', { error: describeError(error) })
  }
}

function diskFull(dataDir: string, floorBytes: number): StatusError {
  return new StatusError(507, 'InsufficientStorage', `less than kube.freeFloorBytes (${floorBytes}) is free under ${dataDir}: free `
    + 'some space; what makes objects smaller, and deleting them, goes on')
}

/** The same at every start, so that a kubeconfig that was handed on stays good. */
async function loadToken(path: string, random: Random): Promise<string> {
  const stored = await readFile(path, 'utf8').catch(() => '')
  if (/^[A-Za-z0-9_-]{43}$/.test(stored)) {
    await chmod(path, privateFileMode)
    return stored
  }
  const token = newToken(random)
  await writeFileAtomic(path, token, privateFileMode)
  return token
}

const newToken = (random: Random): string => Buffer.from(random.bytes(32)).toString('base64url')
