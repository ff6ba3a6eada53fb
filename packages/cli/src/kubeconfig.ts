import { readFile } from 'node:fs/promises'
import { delimiter, dirname, join, resolve } from 'node:path'
import { HoldfastError, describeError, readYaml } from '@holdfast/runtime'
import type { CommandHost } from './command.ts'

/** `--kubeconfig`, of every command that asks the Kubernetes API. */
export const kubeconfigOption = {
  kubeconfig: {
    value: 'FILE',
    summary: 'Of the Kubernetes API. Default: $KUBECONFIG, that of cloudcore on this machine, or ~/.kube/config.'
  }
} as const

/** How to reach a Kubernetes API, and as whom. PEM texts. */
export interface KubeAccess {
  /** The file that says so. */
  readonly source: string
  /** Without a slash at its end. */
  readonly server: string
  readonly token: string | undefined
  readonly tls: {
    readonly ca?: string
    readonly cert?: string
    readonly key?: string
    readonly servername?: string
    readonly rejectUnauthorized?: false
  }
}

/**
 * What the option, the environment or this machine's cloudcore says, the first file that there is. Rejects with
 * `KUBECONFIG_MISSING` or `KUBECONFIG_INVALID`.
 */
export async function readKubeAccess(option: string | undefined, { environment, folder }: CommandHost): Promise<KubeAccess> {
  const { KUBECONFIG: variable = '', HOME: home } = environment
  const named = option !== undefined ? [option] : variable.split(delimiter).filter(path => path !== '')
  const paths = named.length > 0 ? named : [
    join('.holdfast', 'cloud', 'kubeconfig'), '/var/lib/holdfast/cloud/kubeconfig',
    ...home === undefined ? [] : [join(home, '.kube', 'config')]
  ]
  for (const path of paths.map(path => resolve(folder, path))) {
    let text: string
    try {
      text = await readFile(path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue
      throw invalid(path, describeError(error), error)
    }
    return await parseKubeconfig(text, path)
  }
  throw new HoldfastError('KUBECONFIG_MISSING', `no kubeconfig: there is no ${paths.join(', no ')}; give one with --kubeconfig ` +
    'or KUBECONFIG, or ask the node with --edge')
}

/** Reads the current context. Files that it names are read beside it. Rejects with `KUBECONFIG_INVALID`. */
export async function parseKubeconfig(text: string, path: string): Promise<KubeAccess> {
  const { value, problems } = await readYaml(text)
  if (problems.length > 0) throw invalid(`${path}${problems[0]!.place}`, problems[0]!.what)
  const config = partOf(value)
  const contextName = textAt(config, 'current-context')
  if (contextName === undefined) throw invalid(path, 'it has no current-context')
  const context = named(config, 'contexts', contextName, 'context', path)
  const cluster = named(config, 'clusters', textAt(context, 'cluster') ?? '', 'cluster', path)
  const user = named(config, 'users', textAt(context, 'user') ?? '', 'user', path)
  const server = textAt(cluster, 'server')
  if (server === undefined || !URL.canParse(server) || !/^https?:/.test(server)) {
    throw invalid(path, `the server of its cluster is ${server === undefined ? 'missing' : `"${server}"`}, expected an https URL`)
  }
  const plugin = ['exec', 'auth-provider'].find(name => user[name] !== undefined)
  const token = textAt(user, 'token') ?? (await fileAt(user, 'tokenFile', path))?.trim()
  const cert = await pemAt(user, 'client-certificate', path)
  const key = await pemAt(user, 'client-key', path)
  const ca = await pemAt(cluster, 'certificate-authority', path)
  if (token === undefined && cert === undefined && plugin !== undefined) {
    throw invalid(path,
      `its user gets credentials from a plugin (${plugin}), which is not run here: use one with a token or a certificate`)
  }
  const servername = textAt(cluster, 'tls-server-name')
  return {
    source: path,
    server: server.replace(/\/+$/, ''),
    token,
    tls: {
      ...ca !== undefined && { ca }, ...cert !== undefined && { cert }, ...key !== undefined && { key },
      ...servername !== undefined && { servername },
      ...cluster['insecure-skip-tls-verify'] === true && { rejectUnauthorized: false }
    }
  }
}

type Part = Readonly<Record<string, unknown>>

const partOf = (value: unknown): Part => typeof value === 'object' && value !== null ? { ...value } : {}

function textAt(part: Part, name: string): string | undefined {
  const value = part[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

function named(config: Part, list: string, name: string, member: string, path: string): Part {
  const entries = Array.isArray(config[list]) ? config[list].map(partOf) : []
  const entry = entries.find(each => each['name'] === name)
  if (entry === undefined) throw invalid(path, `it has no ${member} "${name}", which its current context uses`)
  return partOf(entry[member])
}

async function pemAt(part: Part, name: string, path: string): Promise<string | undefined> {
  const data = textAt(part, `${name}-data`)
  return data === undefined ? await fileAt(part, name, path) : Buffer.from(data, 'base64').toString('utf8')
}

async function fileAt(part: Part, name: string, path: string): Promise<string | undefined> {
  const file = textAt(part, name)
  if (file === undefined) return undefined
  try {
    return await readFile(resolve(dirname(path), file), 'utf8')
  } catch (error) {
    throw invalid(path, `${name} "${file}" cannot be read (${describeError(error)})`, error)
  }
}

function invalid(path: string, why: string, cause?: unknown): HoldfastError {
  return new HoldfastError('KUBECONFIG_INVALID', `the kubeconfig ${path} cannot be used: ${why}`,
    cause === undefined ? undefined : { cause })
}
