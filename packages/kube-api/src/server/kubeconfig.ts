import { writeFileAtomic } from '@holdfast/runtime'

export interface KubeconfigFields {
  /** Of cluster, user and context. */
  readonly name: string
  /** `https://127.0.0.1:6443` */
  readonly server: string
  /** PEM of what signed the server's certificate; absent with plain HTTP. */
  readonly caPem?: string
  readonly token: string
  readonly namespace?: string
}

/** A kubeconfig for kubectl and client libraries; JSON, which is YAML too. */
export function kubeconfig({ name, server, caPem, token, namespace }: KubeconfigFields): string {
  const base64 = (pem: string): string => Buffer.from(pem).toString('base64')
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{
      name, cluster: { server, ...caPem !== undefined && { 'certificate-authority-data': base64(caPem) } }
    }],
    users: [{ name, user: { token } }],
    contexts: [{ name, context: { cluster: name, user: name, ...namespace !== undefined && { namespace } } }],
    'current-context': name
  }, null, 2) + '\n'
}

/**
 * Replaces the file as a whole. It holds a secret: `mode` is 0o600, or 0o640 where the owner's group may read it too.
 * kubectl accepts both.
 */
export async function writeKubeconfig(
  path: string, fields: KubeconfigFields, mode: 0o600 | 0o640 = 0o600
): Promise<void> {
  await writeFileAtomic(path, kubeconfig(fields), mode)
}
